"""How alike the representations of variants are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import combinations_with_replacement
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluate.feature_tables import read_features, read_ids, tables_of
from training.evaluation.cka import linear_cka

FEATURES = "trained-backbone-pooled.arrow"
"""The table of features that models are compared by."""
_MOST = 2000
"""Images, the first by id (a hash) that all evaluations have: a similarity to two digits needs no more."""


def similarity(variants: Mapping[str, Mapping[str, Path]]) -> dict[str, Any] | None:
    """Linear CKA between the features of every two variants, over the same images: the mean over pairs of trainings.

    variants: of each variant the evaluations by repetition. Pairs are of different repetitions where there are
    several, since two trainings from the same first weights are alike for that reason too; what stands on the diagonal
    is then how alike a variant's own trainings are, and None where there is one. None where features are missing.
    """
    paths = {name: {r: tables_of(folder) / FEATURES for r, folder in runs.items()} for name, runs in variants.items()}
    if len(variants) < 2 or not all(path.exists() for runs in paths.values() for path in runs.values()):
        return None
    ids = [read_ids(path) for runs in paths.values() for path in runs.values()]
    shared = reduce(np.intersect1d, ids)[:_MOST]
    features = {name: {r: _features_of(path, shared) for r, path in runs.items()} for name, runs in paths.items()}
    names, matrix = list(variants), np.full((len(variants), len(variants)), np.nan)
    for row, column in combinations_with_replacement(range(len(names)), 2):
        matrix[row, column] = matrix[column, row] = _mean_cka(features[names[row]], features[names[column]])
    rows = [[None if np.isnan(value) else round(float(value), 4) for value in line] for line in matrix]
    return {"variants": names, "cka": rows, "images": len(shared)}


def _features_of(path: Path, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    return read_features(path)[np.intersect1d(ids, read_ids(path), return_indices=True)[2]]


def _mean_cka(first: Mapping[str, NDArray[np.float32]], second: Mapping[str, NDArray[np.float32]]) -> float:
    apart = [(a, b) for a in first for b in second if a != b]
    if first is second:
        apart = [(a, b) for a, b in apart if a < b]
    pairs = apart or ([] if first is second else [(a, b) for a in first for b in second])
    return fmean(linear_cka(first[a], second[b]) for a, b in pairs) if pairs else float("nan")
