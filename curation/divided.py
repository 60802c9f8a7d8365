"""k-means in two steps for very many clusters: coarse clusters first, then each split by a k-means of its own.

The lowest level of the web-scale setting of Vo et al., arXiv 2405.15613 (100,000 clusters, each split into 100). Its
cost grows with the square root of the number of clusters, where k-means' grows with that number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.kmeans import KMeans, kmeans
from curation.row_blocks import Rows, take
from curation.sampling import allocate


@dataclass(frozen=True)
class Split:
    """How coarse clusters are to be split.

    members: (N,) rows, those of one coarse cluster after those of another, ascending inside; begins: (c + 1,) where
    each one's start. quotas: (c,) clusters that each is split into. seeds: (c,).
    """

    members: NDArray[np.int64]
    begins: NDArray[np.int64]
    quotas: NDArray[np.int64]
    seeds: NDArray[np.uint64]


def plan_split(coarse: KMeans, clusters: int, seed: int) -> Split:
    """Share `clusters` among the coarse ones as evenly as their sizes allow."""
    count = len(coarse.centroids)
    sizes = np.bincount(coarse.labels, minlength=count)
    return Split(
        np.argsort(coarse.labels, kind="stable"),
        np.concatenate([[0], np.cumsum(sizes)]),
        allocate(sizes, clusters, np.arange(count, dtype=np.uint64)),
        np.random.SeedSequence(seed).generate_state(count, np.uint64).astype(np.uint64),
    )


def split_clusters(points: Rows, split: Split, first: int, last: int, *, iterations: int, spherical: bool) -> KMeans:
    """The clusters that the coarse ones `first` to `last` are split into; labels and distances in the order of
    `split.members`, labels counted from the first of these clusters."""
    centroids, labels, distances = [], [], []
    offset = 0
    for cluster in range(first, last):
        members = split.members[split.begins[cluster] : split.begins[cluster + 1]]
        if not len(members):
            continue
        quota, seed = int(split.quotas[cluster]), int(split.seeds[cluster])
        found = kmeans(
            take(points, members),
            quota,
            seed=seed,
            iterations=iterations,
            spherical=spherical,
            relocation=False,
        )
        centroids.append(found.centroids)
        labels.append(found.labels + offset)
        distances.append(found.distances)
        offset += quota
    width = points.shape[1]
    return KMeans(
        np.concatenate([np.empty((0, width), np.float32), *centroids]),
        np.concatenate([np.empty(0, np.int64), *labels]),
        np.concatenate([np.empty(0, np.float32), *distances]),
    )


def in_row_order(split: Split, found: KMeans) -> KMeans:
    """Labels and distances by row instead of by coarse cluster."""
    labels, distances = np.empty_like(found.labels), np.empty_like(found.distances)
    labels[split.members], distances[split.members] = found.labels, found.distances
    return KMeans(found.centroids, labels, distances)
