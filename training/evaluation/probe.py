"""All measures of one set of features under one protocol: a plain record, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.accuracy import accuracy, balanced_accuracy
from training.evaluation.intervals import balanced_interval, difference_interval, wilson_interval
from training.evaluation.knn import knn_predictions
from training.evaluation.linear_probe import FittedProbe, LinearProbe, linear_probe
from training.evaluation.linear_probe_v1 import linear_probe_v1
from training.evaluation.protocol import Protocol, WideProtocol
from training.evaluation.rank import effective_rank, rankme, unit_std

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Predicted classes (Q,) of the queries by kNN (the protocol's k) and by the linear probe, and how they came.

    probabilities: (Q, K) of the linear probe. fitted: the linear probe itself, None under protocol curatrain-v1.
    """

    knn: IntArray
    linear: IntArray
    details: dict[str, Any]
    probabilities: NDArray[np.float64]
    fitted: FittedProbe | None = None


def predict(
    bank: FloatArray,
    bank_labels: IntArray,
    queries: FloatArray,
    query_labels: IntArray,
    protocol: Protocol,
    *,
    k_grid: Sequence[int],
    seed: int,
) -> Predictions:
    """Classify the queries by both probes.

    details: kNN accuracy by k, and the linear probe's C with its held-out accuracies.
    """
    ks = sorted({protocol.neighbours, *k_grid})
    by_k = knn_predictions(bank, bank_labels, queries, ks, temperature=protocol.temperature)
    fit: Callable[..., LinearProbe] = linear_probe if isinstance(protocol, WideProtocol) else linear_probe_v1
    linear = fit(
        bank,
        bank_labels,
        queries,
        regularisations=protocol.regularisations,
        selection_share=protocol.selection_share,
        seed=seed,
    )
    details = {
        "knn_by_k": {str(k): accuracy(query_labels, by_k[k]) for k in ks},
        "linear_c": linear.regularisation,
        "linear_selection": {f"{c:.6g}": share for c, share in linear.selection.items()},
    }
    fitted = linear if isinstance(linear, FittedProbe) else None
    return Predictions(by_k[protocol.neighbours], linear.predictions, details, linear.probabilities, fitted)


def score(truth: IntArray, predicted: IntArray, classes: int, protocol: Protocol, *, seed: int) -> dict[str, float]:
    """Accuracy and balanced accuracy with their intervals: keys "", "_lo", "_hi", "_balanced", "_balanced_lo", ..."""
    correct = truth == predicted
    low, high = wilson_interval(int(correct.sum()), len(correct), protocol.confidence)
    balanced_low, balanced_high = balanced_interval(
        correct, truth, seed=seed, resamples=protocol.resamples, confidence=protocol.confidence
    )
    return {
        "": accuracy(truth, predicted),
        "_lo": low,
        "_hi": high,
        "_balanced": balanced_accuracy(truth, predicted, classes),
        "_balanced_lo": balanced_low,
        "_balanced_hi": balanced_high,
    }


def gain(truth: IntArray, predicted: IntArray, other: IntArray, protocol: Protocol, *, seed: int) -> dict[str, float]:
    """Accuracy of `predicted` minus that of `other` on the same queries, with a paired interval: "", "_lo", "_hi"."""
    low, high = difference_interval(
        truth == predicted, truth == other, seed=seed, resamples=protocol.resamples, confidence=protocol.confidence
    )
    return {"": accuracy(truth, predicted) - accuracy(truth, other), "_lo": low, "_hi": high}


def label_free(features: FloatArray, protocol: Protocol) -> dict[str, float]:
    """RankMe, effective rank of the covariance, and the spread of the normalised features."""
    return {
        "rankme": rankme(features, protocol.rank_eps),
        "effective_rank": effective_rank(features),
        "unit_std": unit_std(features),
    }
