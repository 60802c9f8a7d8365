"""CLID: how learnable the clusters of the features are, and how many dimensions the features need."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from training.evaluation.sphere import unit_rows

FloatArray = NDArray[np.floating]

_CHUNK = 512


def cluster_learnability(features: FloatArray, clusters: int, *, seed: int = 0) -> float:
    """Accuracy of a 1-NN classifier that learns k-means labels row after row (Lu et al., 2022, arXiv:2206.01251).

    Rows are normalised, clustered, and met in a seeded order; each is predicted from those before it, so quickly
    learned clusters score high. The first row counts as wrong. There are no more clusters than different rows. Raises
    ValueError with fewer rows than clusters.
    """
    x = unit_rows(features)
    if not 1 <= clusters <= len(x):
        raise ValueError(f"{clusters} clusters need at least as many rows, got {len(x)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # which changes nothing here
        first = _spread_rows(x, min(clusters, len(np.unique(x, axis=0))), seed)
        _, labels = kmeans2(x, first, iter=25, minit="matrix")
    order = np.random.default_rng(seed).permutation(len(x))
    x, labels = x[order], labels[order]
    right = 0
    for start in range(0, len(x), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(x)))
        similarity = x[rows] @ x[: rows[-1] + 1].T
        similarity[np.arange(rows[-1] + 1) >= rows[:, None]] = -np.inf
        known = rows > 0
        right += int((labels[similarity.argmax(axis=1)] == labels[rows])[known].sum())
    return right / len(x)


def _spread_rows(x: FloatArray, count: int, seed: int) -> FloatArray:
    """(count, D) rows to start k-means from, each drawn by its squared distance to those before (Arthur and
    Vassilvitskii, 2007: k-means++)."""
    generator = np.random.default_rng(seed)
    chosen = [int(generator.integers(len(x)))]
    gap = np.full(len(x), np.inf)
    while len(chosen) < count:
        gap = np.minimum(gap, np.square(x - x[chosen[-1]]).sum(axis=1))
        chosen.append(int(np.searchsorted((gap / gap.sum()).cumsum(), generator.uniform())))
    return x[chosen]


def two_nn_dimension(features: FloatArray, discard: float = 0.1) -> float:
    """Intrinsic dimension by TwoNN (Facco et al., 2017, arXiv:1803.06992).

    With m the ratio of the distances to the second and the first neighbour, -log(1 - F(m)) is d log(m): the slope
    through the origin, without the `discard` largest ratios. Equal rows count once. NaN with fewer than three.
    """
    x = np.unique(np.asarray(features, dtype=np.float64), axis=0)
    if len(x) < 3:
        return float("nan")
    first, second = _two_nearest(x)
    ratio = np.sort(second / first)
    kept = max(1, int(len(ratio) * (1 - discard)))
    log_ratio = np.log(ratio[:kept])
    survival = -np.log(1 - np.arange(1, kept + 1) / (len(ratio) + 1))
    power = float((log_ratio**2).sum())
    return float((log_ratio * survival).sum()) / power if power > 0 else float("nan")


def clid(learnability: Sequence[float], dimension: Sequence[float]) -> list[float]:
    """CLID of several models: the sum of both measures, each standardised over the models (arXiv:2206.01251).

    Higher is better; a figure for one model alone does not exist. Raises ValueError with fewer than two models.
    """
    if len(learnability) != len(dimension) or len(learnability) < 2:
        raise ValueError("CLID compares models: give both measures of at least two")
    parts = []
    for values in (np.asarray(learnability, dtype=np.float64), np.asarray(dimension, dtype=np.float64)):
        spread = values.std()
        parts.append((values - values.mean()) / spread if spread > 0 else np.zeros(len(values)))
    return (parts[0] + parts[1]).tolist()


def _two_nearest(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of each row to its two nearest others, from differences: no cancellation for close rows."""
    first, second = np.empty(len(x)), np.empty(len(x))
    squares = (x**2).sum(axis=1)
    for start in range(0, len(x), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(x)))
        distance = squares[rows, None] + squares - 2 * x[rows] @ x.T
        distance[np.arange(len(rows)), rows] = np.inf
        # The sums above lose digits where rows are close, so the candidates are measured again.
        near = np.argpartition(distance, min(3, len(x) - 1), axis=1)[:, : min(4, len(x) - 1)]
        exact = np.sort(np.linalg.norm(x[near] - x[rows, None], axis=2), axis=1)
        first[rows], second[rows] = exact[:, 0], exact[:, 1]
    return first, second
