"""What batches are drawn from, out of a sampling and the columns of the shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from training.sampling import (
    Integers,
    Population,
    Sampling,
    Stream,
    Weights,
    cluster_weights,
    mixture_weights,
    running_totals,
)
from training.shards import ShardError, ShardReader


def population(reader: ShardReader, sampling: Sampling, weights: Weights | None = None) -> Population:
    """What batches are drawn from. weights: (N,) that take the place of those that `sampling.by` names.

    Raises ValueError where the shards lack what the sampling asks for, or it names a set or part that they do not
    hold.
    """
    sampling = obeying(sampling, reader.index.mixture)
    n, block = len(reader), reader.index.rows_per_batch
    strata: list[Integers] = []
    if weights is None:
        weights, strata = _base_weights(reader, sampling)
    elif weights.shape != (n,):
        raise ValueError(f"{len(weights)} weights were given for {n} rows")
    mixed = weights
    names: list[str] = []
    sources = np.zeros(0, np.int64)
    if sampling.homogeneous or sampling.shares != "rows":
        names, sources = _names(reader, sampling.among)
        _check_names(sampling, names)
    if sampling.shares != "rows":
        mixed = mixture_weights(_or_ones(weights, n), sources, _shares(reader, sampling, names, sources))
        strata = [*strata, sources]
    parts = [sampling.homogeneous[name] for name in sorted(sampling.homogeneous)]
    if sum(parts) > 1 + 1e-9:
        raise ValueError(f"the probabilities of homogeneous batches sum to {sum(parts):g}, more than 1")
    streams = [_stream(mixed, None, n, [] if sampling.window else strata)]
    for name in sorted(sampling.homogeneous):
        chosen = np.flatnonzero(sources == names.index(name))
        streams.append(_stream(None if weights is None else weights[chosen], chosen, n, []))
    shares = running_totals(np.array([max(0.0, 1 - sum(parts)), *parts]))
    permutation = len(streams) == 1 and streams[0].totals is None
    return Population(tuple(streams), shares, sampling.window, block, permutation)


def obeying(sampling: Sampling, mixture: Mapping[str, Any] | None) -> Sampling:
    """The sampling with the mixture's shares and homogeneous batches, where it has none of its own."""
    if not mixture or not sampling.mixture or sampling.shares != "rows" or sampling.homogeneous:
        return sampling
    return replace(sampling, among="part", shares=mixture["shares"], homogeneous=mixture["homogeneous"])


def _stream(weights: Weights | None, rows: Integers | None, n: int, strata: list[Integers]) -> Stream:
    """A stream of the rows (None: all n) that have a weight. Those of a stratum lie together, so that it gets its
    share to within a draw."""
    if weights is None or _all_alike(weights.min(), weights.max()):
        return Stream(n if rows is None else len(rows), rows)
    if rows is None and not strata and weights.min() > 0:
        return Stream(n, None, running_totals(weights))
    order = np.lexsort(strata) if strata else np.arange(len(weights))
    order = order[weights[order] > 0]
    return Stream(len(order), order if rows is None else rows[order], running_totals(weights[order]))


def _all_alike(least: float, most: float) -> bool:
    return 0 < least == most


def _base_weights(reader: ShardReader, sampling: Sampling) -> tuple[Weights | None, list[Integers]]:
    """Row weights before any mixture (None: all alike), and the strata that they give shares to."""
    if sampling.by == "uniform":
        return None, []
    if sampling.by == "cluster":
        clusters = _clusters(reader, sampling.level)
        return cluster_weights(clusters, sampling.temperature), [clusters]
    column = _column(reader, "weight")
    if column.null_count:  # filling where nothing is missing would cost the first batch an import of pandas
        column = pc.fill_null(column, 1.0)
    extremes = pc.min_max(column).as_py()
    if _all_alike(extremes["min"], extremes["max"]):
        return None, []
    return column.to_numpy().astype(np.float64), []


def _or_ones(weights: Weights | None, n: int) -> Weights:
    return np.ones(n) if weights is None else weights


def _column(reader: ShardReader, name: str) -> Any:
    try:
        return reader.sampling_column(name)
    except ShardError as error:
        raise ValueError(f"sampling: {error}") from error


def _clusters(reader: ShardReader, level: int) -> Integers:
    """A number for each row's path down to `level`."""
    paths = _column(reader, "cluster")
    lengths = pc.fill_null(pc.list_value_length(paths), 0).to_numpy()
    depth = int(lengths.max())
    if not -depth <= level < depth:
        raise ValueError(f"sampling.level is {level}, but the shards' cluster paths have {depth} levels")
    kept = level + 1 if level >= 0 else depth + level + 1
    padded = np.full((len(lengths), depth), -1, np.int64)
    padded[np.arange(depth) < lengths[:, None]] = pc.list_flatten(paths).to_numpy()
    return np.unique(padded[:, :kept], axis=0, return_inverse=True)[1].reshape(-1)


def _names(reader: ShardReader, among: str) -> tuple[list[str], Integers]:
    """Names of the source sets (or parts) in ascending order, and each row's number among them; a null is ''."""
    encoded = pc.fill_null(_column(reader, among), "").combine_chunks().dictionary_encode()
    given = encoded.dictionary.to_pylist()
    names = sorted(given)
    numbers = np.array([names.index(name) for name in given], np.int64)
    return names, numbers[encoded.indices.to_numpy()]


def _check_names(sampling: Sampling, names: list[str]) -> None:
    known = ", ".join(repr(name) for name in names)
    shares = sampling.shares if isinstance(sampling.shares, dict) else {}
    for key, named in (("shares", shares), ("homogeneous", sampling.homogeneous)):
        if strange := sorted(set(named) - set(names)):
            raise ValueError(f"sampling.{key} names {strange[0]!r}, but the shards' {sampling.among}s are {known}")
    if shares and (left := sorted(set(names) - set(shares))):
        raise ValueError(
            f"sampling.shares says nothing of {left[0]!r}: give every {sampling.among} a share, 0 to leave it out"
        )


def _shares(reader: ShardReader, sampling: Sampling, names: list[str], sources: Integers) -> Weights:
    if isinstance(sampling.shares, dict):
        return np.array([sampling.shares[name] for name in names], np.float64)
    if sampling.among != "source":
        raise ValueError("sampling.shares: source_weight is of source sets; give the shares of parts by name")
    weights = pc.fill_null(_column(reader, "source_weight"), 1.0).to_numpy().astype(np.float64)
    first = np.unique(sources, return_index=True)[1]
    if (weights != weights[first][sources]).any():
        raise ValueError("sampling.shares: rows of one source differ in source_weight; give the shares by name")
    return weights[first]
