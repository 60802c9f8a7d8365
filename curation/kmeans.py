"""k-means: well spread first centres, then Lloyd iterations that skip what cannot change. Euclidean or spherical.

The same result for any number of BLAS threads: labels are exact, and means are kept as float64 sums to which only rows
that changed their cluster are added, in row order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from curation.assignment import Assignment, Move, assign
from curation.row_blocks import Rows
from curation.seeding import spread_centres


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


def kmeans(points: Rows, clusters: int, *, seed: int, iterations: int = 50, spherical: bool = False) -> KMeans:
    """Cluster (N, d) points into `clusters` groups, deterministic for a seed and an order of rows.

    points: an array, or one mapped from a file: rows are read block by block.
    iterations: Lloyd iterations; it ends earlier only at a fixed point, where the rest would change nothing.
    spherical: centroids are scaled to length 1 (cosine k-means; pass unit rows).
    An empty cluster keeps its centroid. Raises ValueError unless 1 <= clusters <= N.
    """
    if not 1 <= clusters <= len(points):
        raise ValueError(f"{clusters} clusters of {len(points)} points")
    centroids = spread_centres(points, clusters, seed)
    assignment, sums = Assignment(points), _Sums(clusters, centroids.shape[1])
    moves = assignment.update(centroids)
    for _ in range(iterations):
        if not moves:
            break
        sums.add(moves)
        before, centroids = centroids, sums.means(centroids, spherical)
        drift = np.linalg.norm(centroids.astype(np.float64) - before, axis=1)
        moves = assignment.update(centroids, drift)
    return KMeans(centroids, *assign(points, centroids))


class _Sums:
    """Sum (float64) and number of the rows of each cluster."""

    def __init__(self, clusters: int, width: int) -> None:
        self.sums = np.zeros((clusters, width))
        self.counts = np.zeros(clusters, np.int64)

    def add(self, moves: list[Move]) -> None:
        for move in moves:
            for labels, sign in ((move.old, -1.0), (move.new, 1.0)):
                inside = np.flatnonzero(labels >= 0)
                ones = (np.full(len(inside), sign), (labels[inside], inside))
                shape = (len(self.counts), len(labels))
                self.sums += csr_matrix(ones, shape=shape) @ move.rows.astype(np.float64)
                self.counts += int(sign) * np.bincount(labels[inside], minlength=len(self.counts))

    def means(self, centroids: NDArray[np.float32], spherical: bool) -> NDArray[np.float32]:
        """Mean of each cluster; empty ones keep their centroid."""
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        if spherical:
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            means = means / np.where(lengths > 0, lengths, 1)
        return np.where(self.counts[:, None] > 0, means, centroids).astype(np.float32)
