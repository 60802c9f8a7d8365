"""kNN votes mixed with the probabilities of a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.knn import knn_probabilities
from training.evaluation.linear_probe import FittedProbe

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

SHARES = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True)
class Interpolation:
    """predictions: (Q,) classes. share: of the kNN votes in the mixture. selection: held-out accuracy by share."""

    predictions: IntArray
    share: float
    selection: dict[float, float]


def interpolate(knn: NDArray[np.float64], linear: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """share * knn + (1 - share) * linear, of (Q, K) probabilities (Jia et al., 2021, arXiv:2112.08459)."""
    return share * knn + (1 - share) * linear


def knn_linear_interpolation(
    features: FloatArray,
    labels: IntArray,
    queries: FloatArray,
    linear: FittedProbe,
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
    shares: Sequence[float] = SHARES,
) -> Interpolation:
    """Mix both probes, with the share that is best on the training rows that the linear one has chosen its C on.

    features: (N, D). labels: (N,) in 0..K-1. queries: (Q, D). linear: `linear_probe` of the same rows and queries.
    Among equals the smallest share is taken, so kNN enters only where it helps.
    """
    held = linear.held

    def knn(bank: FloatArray, of: IntArray, rows: FloatArray) -> NDArray[np.float64]:
        votes = knn_probabilities(bank, of, rows, neighbours, temperature=temperature)
        return np.pad(votes, ((0, 0), (0, linear.probabilities.shape[1] - votes.shape[1])))

    selection = {min(shares): 0.0}
    if held.any():
        seen = knn(features[~held], labels[~held], features[held])
        mixed = {share: interpolate(seen, linear.held_probabilities, share) for share in shares}
        selection = {share: float((found.argmax(axis=1) == labels[held]).mean()) for share, found in mixed.items()}
    best = max(selection, key=lambda share: (selection[share], -share))
    predictions = interpolate(knn(features, labels, queries), linear.probabilities, best).argmax(axis=1)
    return Interpolation(predictions, best, selection)
