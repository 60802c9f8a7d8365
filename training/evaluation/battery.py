"""Every measure of one set of frozen features, under one wide protocol, as flat figures with intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.evaluation.calibration import calibration
from training.evaluation.clid import cluster_learnability, two_nn_dimension
from training.evaluation.interpolation import knn_linear_interpolation
from training.evaluation.intervals import Interval
from training.evaluation.lidar import lidar
from training.evaluation.low_shot import low_shot
from training.evaluation.probe import Predictions, label_free, predict, score
from training.evaluation.protocol import WideProtocol
from training.evaluation.retrieval import retrieval
from training.evaluation.ridge import ridge_probe
from training.evaluation.spectrum import alpha_req, nesum, stable_rank
from training.evaluation.sphere import alignment, tolerance, uniformity

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]
Figures = dict[str, float]


def labelled_battery(
    bank: FloatArray,
    bank_labels: IntArray,
    queries: FloatArray,
    truth: IntArray,
    protocol: WideProtocol,
    *,
    seed: int,
    predictions: Predictions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Figures:
    """Probes fitted on the bank and scored once on the queries, and retrieval among the queries.

    bank: (N, D), labels in 0..K-1; queries: (Q, D). Each of knn, linear, ridge and interpolation gives "", "_lo",
    "_hi", "_balanced", "_balanced_lo", "_balanced_hi"; further `knn_K` for each k; `linear_c`, `ridge_penalty` and
    `interpolation_share`, what was chosen; `ece` and `brier` of the linear probe; `1_shot`, ..., `10_percent`; `map`,
    `recall_1`, ...; the last three with "_lo" and "_hi". predictions: of `predict` on the same rows by this protocol
    and seed, where they are known. progress: told the name of each measure before it starts.
    """
    classes = int(max(bank_labels.max(), truth.max())) + 1
    found: Figures = {}

    def scored(name: str, predictions: IntArray) -> None:
        figures = score(truth, predictions, classes, protocol, seed=seed)
        found.update({f"{name}{suffix}": value for suffix, value in figures.items()})

    progress("knn and linear")
    if predictions is None:
        predictions = predict(bank, bank_labels, queries, truth, protocol, k_grid=protocol.k_grid, seed=seed)
    scored("knn", predictions.knn)
    found |= {f"knn_{k}": share for k, share in predictions.details["knn_by_k"].items()}
    scored("linear", predictions.linear)
    found["linear_c"] = predictions.details["linear_c"]
    found |= _calibration(predictions.probabilities, truth, protocol, seed)
    progress("ridge")
    ridge = ridge_probe(bank, bank_labels, queries, penalties=protocol.penalties)
    scored("ridge", ridge.predictions)
    found["ridge_penalty"] = ridge.penalty
    progress("interpolation")
    assert predictions.fitted is not None
    mixed = knn_linear_interpolation(
        bank,
        bank_labels,
        queries,
        predictions.fitted,
        neighbours=protocol.neighbours,
        temperature=protocol.temperature,
        shares=protocol.interpolation,
    )
    scored("interpolation", mixed.predictions)
    found["interpolation_share"] = mixed.share
    progress("low shot")
    found |= _low_shot(bank, bank_labels, queries, truth, protocol, seed)
    progress("retrieval")
    return found | _retrieval(queries, truth, protocol, seed)


def label_free_battery(
    features: FloatArray,
    protocol: WideProtocol,
    *,
    seed: int,
    labels: IntArray | None = None,
    views: FloatArray | None = None,
) -> Figures:
    """`rankme`, `effective_rank`, `unit_std`, `alpha_req`, `stable_rank`, `nesum`, `uniformity`, `intrinsic_dimension`
    and `cluster_learnability` of (N, D) features.

    labels: (N,), adds `tolerance`. views: (n, V, D) features of V augmented views of images, grouped by image; adds
    `lidar` and `alignment`. A `clid` exists only between models (`training.evaluation.clid.clid`).
    """
    x = np.asarray(features)[_chosen(len(features), protocol.max_label_free, seed)]
    rows = _chosen(len(features), protocol.max_pairs, seed)
    few = np.asarray(features)[rows]
    clusters = max(2, min(protocol.clusters, len(few) // 10))
    found = label_free(x, protocol) | {
        "alpha_req": alpha_req(x, *protocol.alpha_ranks),
        "stable_rank": stable_rank(x),
        "nesum": nesum(x),
        "uniformity": uniformity(few),
        "cluster_learnability": cluster_learnability(few, clusters, seed=seed),
        "intrinsic_dimension": two_nn_dimension(few),
    }
    if labels is not None:
        found["tolerance"] = tolerance(few, labels[rows])
    if views is not None:
        found |= {"lidar": lidar(views), "alignment": alignment(views[:, 0], views[:, 1])}
    return found


def _calibration(probabilities: NDArray[np.float64], truth: IntArray, protocol: WideProtocol, seed: int) -> Figures:
    found = calibration(
        probabilities,
        truth,
        bins=protocol.bins,
        seed=seed,
        resamples=protocol.resamples,
        level=protocol.confidence,
    )
    return _with_interval("ece", found.error, found.interval) | {"brier": found.brier}


def _low_shot(
    bank: FloatArray, labels: IntArray, queries: FloatArray, truth: IntArray, protocol: WideProtocol, seed: int
) -> Figures:
    found: Figures = {}
    for row in low_shot(
        bank,
        labels,
        queries,
        truth,
        per_class=protocol.per_class,
        percents=protocol.percents,
        seeds=range(seed, seed + protocol.draws),
        confidence=protocol.confidence,
    ):
        found[row.name] = row.mean
        if row.low is not None and row.high is not None:
            found |= {f"{row.name}_lo": row.low, f"{row.name}_hi": row.high}
    return found


def _retrieval(queries: FloatArray, truth: IntArray, protocol: WideProtocol, seed: int) -> Figures:
    """The queries searched in themselves: nothing of the training images takes part."""
    rows = _chosen(len(queries), protocol.max_retrieval, seed)
    x, labels = np.asarray(queries)[rows], truth[rows]
    if (np.unique(labels, return_counts=True)[1] < 2).all():
        return {}
    found = retrieval(
        x,
        labels,
        x,
        labels,
        ks=protocol.recall_at,
        itself=np.arange(len(x)),
        seed=seed,
        resamples=protocol.resamples,
        confidence=protocol.confidence,
    )
    figures = _with_interval("map", found.mean_ap, found.mean_ap_interval)
    for k in protocol.recall_at:
        figures |= _with_interval(f"recall_{k}", found.recall[k], found.recall_intervals[k])
    return figures


def _with_interval(name: str, value: float, interval: Interval) -> Figures:
    return {name: value, f"{name}_lo": interval[0], f"{name}_hi": interval[1]}


def _chosen(count: int, limit: int, seed: int) -> IntArray:
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
