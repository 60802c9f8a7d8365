"""Hierarchical k-means with resampling, which spreads clusters evenly over concepts instead of over images.

Vo et al., "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach", arXiv 2405.15613.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curation.assignment import assign
from curation.divided import Split, in_row_order, plan_split, split_clusters
from curation.kmeans import KMeans, kmeans
from curation.row_blocks import Rows, take


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


class Clustering(Protocol):
    """Where the work is done; every way gives the same bits."""

    def kmeans(self, points: Rows, clusters: int, *, seed: int, iterations: int, spherical: bool) -> KMeans:
        """As `curation.kmeans.kmeans` without relocation: centres are to follow the support, not where it is dense."""

    def assign(self, points: Rows, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `curation.assignment.assign`."""

    def split(self, points: Rows, split: Split, *, iterations: int, spherical: bool) -> KMeans:
        """As `curation.divided.split_clusters`, of all coarse clusters."""

    def take(self, points: Rows, indices: NDArray[np.int64]) -> Rows:
        """The rows at ascending `indices`, to be clustered alone."""


class LocalClustering:
    """Everything in this process."""

    def kmeans(self, points: Rows, clusters: int, *, seed: int, iterations: int, spherical: bool) -> KMeans:
        return kmeans(points, clusters, seed=seed, iterations=iterations, spherical=spherical, relocation=False)

    def assign(self, points: Rows, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return assign(points, centroids)

    def split(self, points: Rows, split: Split, *, iterations: int, spherical: bool) -> KMeans:
        return split_clusters(points, split, 0, len(split.quotas), iterations=iterations, spherical=spherical)

    def take(self, points: Rows, indices: NDArray[np.int64]) -> Rows:
        return take(points, indices)


def hierarchical_kmeans(
    points: Rows,
    clusters: Sequence[int],
    *,
    seed: int,
    rounds: int = 10,
    iterations: int = 50,
    nearest: Sequence[int] | None = None,
    coarse: int = 0,
    spherical: bool = False,
    clustering: Clustering | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Hierarchy:
    """Cluster points, then the centroids, and so on: one level for each entry of `clusters`, finest first.

    points: (N, d), an array or mapped from files; scale rows to length 1 before for cosine similarity.
    clusters: strictly falling counts.
    rounds: resampling rounds a level (m of the paper, 10 there; 0 is plain hierarchical k-means). Each round
    re-clusters the r points nearest to each centroid, so that dense regions lose their surplus of centroids.
    nearest: r of each level; by default half the level's average cluster size. Levels with r < 2 are not resampled.
    coarse: clusters of a first step of the lowest level, each then split by its own k-means (`curation.divided`);
    0: one k-means. spherical: centroids of length 1 at every level (give unit rows).
    on_step: called with (steps done, steps in all) after each k-means.
    Raises ValueError unless N >= clusters[0] > clusters[1] > ... >= 1, `nearest` has an entry a level, and
    coarse <= clusters[0].
    """
    counts = list(clusters)
    if not counts or any(low <= high for low, high in itertools.pairwise(counts)):
        raise ValueError(f"cluster counts must fall from level to level, got {counts}")
    if nearest is not None and len(nearest) != len(counts):
        raise ValueError(f"{len(counts)} levels need as many numbers of nearest points, got {list(nearest)}")
    if coarse > counts[0]:
        raise ValueError(f"{coarse} coarse clusters are more than the {counts[0]} that they are to be split into")
    work = clustering or LocalClustering()
    seeds = np.random.SeedSequence(seed).generate_state(len(counts) * (rounds + 1), np.uint64)
    steps = len(counts) * (rounds + 1)
    rows = points
    levels: list[KMeans] = []
    for depth, count in enumerate(counts):
        fit = partial(_fit, work, coarse=0 if depth else coarse, iterations=iterations, spherical=spherical)
        sampled = round(len(rows) / (2 * count)) if nearest is None else nearest[depth]
        level = fit(rows, count, seed=int(seeds[depth * (rounds + 1)]))
        for step in range(1, rounds + 1 if sampled >= 2 else 1):
            if on_step is not None:
                on_step(depth * (rounds + 1) + step, steps)
            sample = _nearest_members(level, sampled)
            if len(sample) >= count:
                fresh = fit(work.take(rows, sample), count, seed=int(seeds[depth * (rounds + 1) + step]))
                level = KMeans(fresh.centroids, *work.assign(rows, fresh.centroids))
        if on_step is not None:
            on_step((depth + 1) * (rounds + 1), steps)
        levels.append(level)
        rows = level.centroids
    return Hierarchy(levels)


def _fit(
    work: Clustering, rows: Rows, count: int, *, seed: int, coarse: int, iterations: int, spherical: bool
) -> KMeans:
    if not coarse:
        return work.kmeans(rows, count, seed=seed, iterations=iterations, spherical=spherical)
    first = work.kmeans(rows, coarse, seed=seed, iterations=iterations, spherical=spherical)
    split = plan_split(first, count, seed)
    return in_row_order(split, work.split(rows, split, iterations=iterations, spherical=spherical))


def _nearest_members(level: KMeans, nearest: int) -> NDArray[np.int64]:
    """Rows of the `nearest` members closest to each centroid, ascending."""
    order = np.lexsort((level.distances, level.labels))
    labels = level.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(labels, labels)
    return np.sort(order[rank < nearest])
