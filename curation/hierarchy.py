"""Hierarchical k-means with resampling, which spreads clusters evenly over concepts instead of over images.

Vo et al., "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach", arXiv 2405.15613.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.kmeans import KMeans, assign, kmeans


@dataclass(frozen=True)
class Hierarchy:
    """levels: from the lowest (finest) up; level 0 clusters the points, level t the centroids of level t - 1."""

    levels: list[KMeans]

    def paths(self) -> NDArray[np.int32]:
        """Cluster of each point at each level, (N, T) from the top level down to the leaf."""
        columns = [self.levels[0].labels]
        for level in self.levels[1:]:
            columns.append(level.labels[columns[-1]])
        return np.stack(columns[::-1], axis=1).astype(np.int32)


def hierarchical_kmeans(
    points: NDArray[np.generic],
    clusters: Sequence[int],
    *,
    seed: int,
    rounds: int = 10,
    iterations: int = 50,
    on_step: Callable[[int, int], None] | None = None,
) -> Hierarchy:
    """Cluster points, then the centroids, and so on: one level for each entry of `clusters`, finest first.

    points: (N, d); scale rows to length 1 before for cosine similarity. clusters: strictly falling counts.
    rounds: resampling rounds a level (m of the paper, 10 there; 0 is plain hierarchical k-means). Each round
    re-clusters the r points nearest to each centroid, r being half the level's average cluster size, so that dense
    regions lose their surplus of centroids; levels with r < 2 are not resampled.
    on_step: called with (steps done, steps in all) after each k-means.
    Raises ValueError unless N >= clusters[0] > clusters[1] > ... >= 1.
    """
    counts = list(clusters)
    if not counts or any(low <= high for low, high in itertools.pairwise(counts)):
        raise ValueError(f"cluster counts must fall from level to level, got {counts}")
    rows = np.ascontiguousarray(points, dtype=np.float32)
    seeds = np.random.SeedSequence(seed).generate_state(len(counts) * (rounds + 1), np.uint64)
    steps = len(counts) * (rounds + 1)
    levels: list[KMeans] = []
    for depth, count in enumerate(counts):
        nearest = round(len(rows) / (2 * count))
        level = kmeans(rows, count, seed=int(seeds[depth * (rounds + 1)]), iterations=iterations)
        for step in range(1, rounds + 1 if nearest >= 2 else 1):
            if on_step is not None:
                on_step(depth * (rounds + 1) + step, steps)
            level = _resampled(rows, level, nearest, int(seeds[depth * (rounds + 1) + step]), iterations)
        if on_step is not None:
            on_step((depth + 1) * (rounds + 1), steps)
        levels.append(level)
        rows = level.centroids
    return Hierarchy(levels)


def _resampled(rows: NDArray[np.float32], level: KMeans, nearest: int, seed: int, iterations: int) -> KMeans:
    """Fresh centroids from the `nearest` rows closest to each centroid, then every row assigned to them."""
    order = np.lexsort((level.distances, level.labels))
    labels = level.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(labels, labels)
    sample = np.sort(order[rank < nearest])
    clusters = len(level.centroids)
    if len(sample) < clusters:
        return level
    centroids = kmeans(rows[sample], clusters, seed=seed, iterations=iterations).centroids
    return KMeans(centroids, *assign(rows, centroids))
