"""k-means, Euclidean or spherical: well spread first centres, idle ones moved to where they pay, Lloyd iterations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.lloyd import LocalParts, Parts, lloyd
from curation.relocation import relocate
from curation.row_blocks import Rows
from curation.seeding import GREEDY, sample_rows, spread_centres


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
    points: Rows,
    clusters: int,
    *,
    seed: int,
    iterations: int = 50,
    spherical: bool = False,
    relocation: bool = True,
    parts: Parts | None = None,
) -> KMeans:
    """Cluster (N, d) points into `clusters` groups, deterministic for a seed and an order of rows.

    points: an array, or one mapped from a file: rows are read block by block.
    iterations: Lloyd iterations; it ends earlier only at a fixed point, where the rest would change nothing.
    spherical: centroids are scaled to length 1 (cosine k-means; pass unit rows).
    relocation: move centres that hardly pay, up to 1,024 of them (`curation.relocation`): a lower potential, which
    follows where the points are dense.
    parts: the same points where other workers hold them (`curation.shared_kmeans`); the result is the same.
    An empty cluster keeps its centroid. Raises ValueError unless 1 <= clusters <= N.
    """
    if not 1 <= clusters <= len(points):
        raise ValueError(f"{clusters} clusters of {len(points)} points")
    parts = LocalParts(points) if parts is None else parts
    rng = np.random.default_rng(seed)
    sample = sample_rows(points, clusters, rng)
    centroids = spread_centres(sample, clusters, rng)
    if relocation and clusters <= GREEDY:
        centroids = relocate(sample, centroids, rng, spherical=spherical)
    centroids = lloyd(parts, centroids, iterations=iterations, spherical=spherical)
    return KMeans(centroids, *parts.assign(centroids))
