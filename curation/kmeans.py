"""k-means with greedy k-means++ seeding and a fixed number of Lloyd iterations, Euclidean or spherical.

Seeding: Arthur & Vassilvitskii 2007, with 2 + int(ln k) local trials. Two choices make the result the same for any
number of BLAS threads: candidates are drawn by an exponential race instead of a cumulative sum, whose borders move
with every rounding error, and assignments that are too close to call in float32 are decided in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

_BLOCK_FLOATS = 1 << 23
_TOO_CLOSE = 3e-5


@dataclass(frozen=True)
class KMeans:
    """centroids: (k, d) float32. labels: (N,) int64. distances: (N,) float32, squared Euclidean to the centroid."""

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    distances: NDArray[np.float32]

    @property
    def inertia(self) -> float:
        """Sum of squared distances, the potential that k-means lowers."""
        return float(self.distances.astype(np.float64).sum())


def kmeans(
    points: NDArray[np.generic], clusters: int, *, seed: int, iterations: int = 50, spherical: bool = False
) -> KMeans:
    """Cluster (N, d) points into `clusters` groups, deterministic for a seed and an order of rows.

    iterations: Lloyd iterations; it ends earlier only at a fixed point, where the rest would change nothing.
    spherical: centroids are scaled to length 1 (cosine k-means; pass unit rows).
    An empty cluster keeps its centroid. Raises ValueError unless 1 <= clusters <= N.
    """
    rows = np.ascontiguousarray(points, dtype=np.float32)
    if not 1 <= clusters <= len(rows):
        raise ValueError(f"{clusters} clusters of {len(rows)} points")
    centroids = rows[_plus_plus(rows, clusters, np.random.default_rng(seed))].copy()
    labels, distances = assign(rows, centroids)
    for _ in range(iterations):
        centroids = _means(rows, labels, centroids, spherical)
        before = labels
        labels, distances = assign(rows, centroids)
        if np.array_equal(before, labels):
            break
    return KMeans(centroids, labels, distances)


def assign(
    points: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Nearest centroid (smallest index on ties) of every row and the squared distance to it, in blocks of rows."""
    labels = np.empty(len(points), np.int64)
    distances = np.empty(len(points), np.float32)
    lengths = np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64)
    block = max(1, _BLOCK_FLOATS // max(1, len(centroids)))
    for start in range(0, len(points), block):
        rows = points[start : start + block]
        labels[start : start + block] = nearest = _nearest(rows, centroids, lengths)
        offsets = rows.astype(np.float64) - centroids[nearest]
        distances[start : start + block] = (offsets * offsets).sum(axis=1)
    return labels, distances


def _nearest(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], lengths: NDArray[np.float64]
) -> NDArray[np.int64]:
    scores = lengths.astype(np.float32) - 2 * (rows @ centroids.T)
    nearest = scores.argmin(axis=1)
    best = scores[np.arange(len(rows)), nearest]
    scale = 1 + np.einsum("nd,nd->n", rows, rows)
    rivals = scores <= (best + _TOO_CLOSE * scale)[:, None]
    for row in np.flatnonzero(rivals.sum(axis=1) > 1):
        columns = np.flatnonzero(rivals[row])
        exact = lengths[columns] - 2 * (centroids[columns].astype(np.float64) * rows[row]).sum(axis=1)
        nearest[row] = columns[exact.argmin()]
    return nearest


def _means(
    rows: NDArray[np.float32], labels: NDArray[np.int64], centroids: NDArray[np.float32], spherical: bool
) -> NDArray[np.float32]:
    """Mean of each cluster's rows, summed in float64 in row order; empty clusters keep their centroid."""
    clusters, width = centroids.shape
    sums = np.zeros((clusters, width))
    block = max(1, _BLOCK_FLOATS // width)
    for start in range(0, len(rows), block):
        part = labels[start : start + block]
        ones = (np.ones(len(part)), (part, np.arange(len(part))))
        sums += csr_matrix(ones, shape=(clusters, len(part))) @ rows[start : start + block].astype(np.float64)
    counts = np.bincount(labels, minlength=clusters)[:, None]
    means = sums / np.maximum(counts, 1)
    if spherical:
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        means = means / np.where(lengths > 0, lengths, 1)
    return np.where(counts > 0, means, centroids).astype(np.float32)


def _plus_plus(rows: NDArray[np.float32], clusters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows to start from: each next centre is the best of several drawn with probability ~ squared distance.

    A race of exponential clocks with those rates draws the candidates without replacement.
    """
    trials = 2 + int(math.log(clusters))
    squares = np.einsum("nd,nd->n", rows, rows)
    chosen = [int(rng.integers(len(rows)))]
    nearest = _squared_distances(rows, squares, np.array(chosen))[0]
    nearest[chosen] = 0
    while len(chosen) < clusters:
        clocks = rng.exponential(size=len(rows))
        with np.errstate(divide="ignore"):
            clocks = np.where(nearest > 0, clocks / nearest, np.inf)
        clocks[chosen] = np.nan
        candidates = np.argsort(clocks, kind="stable")[:trials] if len(rows) <= trials else _smallest(clocks, trials)
        candidates = candidates[~np.isnan(clocks[candidates])]
        reached = np.minimum(_squared_distances(rows, squares, candidates), nearest)
        best = int(reached.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(candidates[best]))
        nearest = reached[best]
        nearest[chosen] = 0
    return np.array(chosen)


def _smallest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of the `count` smallest values (NaN last), smallest first, ties by index."""
    found = np.argpartition(values, count)[:count]
    return found[np.lexsort((found, values[found]))]


def _squared_distances(
    rows: NDArray[np.float32], squares: NDArray[np.float32], centres: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(centres, N) squared distances; rounding below the noise of float32 is cut to zero, so equal rows are at 0."""
    found = squares[centres][:, None] + squares[None, :] - 2 * (rows[centres] @ rows.T)
    noise = _TOO_CLOSE * (squares[centres][:, None] + squares[None, :])
    return np.where(found > noise, found, 0)
