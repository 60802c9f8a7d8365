"""Lloyd iterations over rows in parts, which skip what cannot change.

The same result for any number of BLAS threads and of workers: labels are exact, and means are kept as float64 sums to
which each part of the rows adds what moved in it, in the order of the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from curation.assignment import Assignment, Move, assign
from curation.row_blocks import RowRange, Rows, spans

PART_ROWS = 1 << 16
"""Rows of a part. It decides the last bits of the sums, so that one value serves any number of machines."""


@dataclass(frozen=True)
class Change:
    """What a part adds to the sums (C, d) float64 and counts (C,) of the `clusters` (C,) that its moves touch."""

    clusters: NDArray[np.int64]
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]


class Parts(Protocol):
    """The rows of one k-means, in parts that may lie on other machines."""

    def update(self, centroids: NDArray[np.float32], drift: NDArray[np.float64] | None) -> Iterator[Change]:
        """Assign every row, each part's change in the order of the parts; those where nothing moved are left out.

        drift: (k,) how far each centroid went since the last update.
        """

    def assign(self, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Label and squared distance of every row, (N,), as `curation.assignment.assign`."""


def lloyd(
    parts: Parts, centroids: NDArray[np.float32], *, iterations: int, spherical: bool = False
) -> NDArray[np.float32]:
    """The (k, d) centroids after so many iterations, or at the fixed point before; empty ones stay where they are.

    spherical: centroids are scaled to length 1.
    """
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids), np.int64)
    drift: NDArray[np.float64] | None = None
    for _ in range(iterations):
        moved = False
        for change in parts.update(centroids, drift):
            moved = True
            sums[change.clusters] += change.sums
            counts[change.clusters] += change.counts
        if not moved:
            break
        before, centroids = centroids, _means(sums, counts, centroids, spherical)
        drift = np.linalg.norm(centroids.astype(np.float64) - before, axis=1)
    return centroids


class LocalParts:
    """All parts in this process."""

    def __init__(self, points: Rows) -> None:
        self._points = points
        self._parts = [Assignment(RowRange(points, part)) for part in spans(len(points), PART_ROWS)]

    def update(self, centroids: NDArray[np.float32], drift: NDArray[np.float64] | None) -> Iterator[Change]:
        for part in self._parts:
            moves = part.update(centroids, drift)
            if moves:
                yield change_of(moves)

    def assign(self, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return assign(self._points, centroids)


def change_of(moves: list[Move]) -> Change:
    """Sum of the rows that came to each cluster less those that left it, block by block."""
    touched = np.unique(np.concatenate([labels[labels >= 0] for move in moves for labels in (move.old, move.new)]))
    sums, counts = np.zeros((len(touched), moves[0].rows.shape[1])), np.zeros(len(touched), np.int64)
    for move in moves:
        for labels, sign in ((move.old, -1), (move.new, 1)):
            inside = np.flatnonzero(labels >= 0)
            at = np.searchsorted(touched, labels[inside])
            ones = (np.full(len(inside), float(sign)), (at, inside))
            sums += csr_matrix(ones, shape=(len(touched), len(labels))) @ move.rows.astype(np.float64)
            counts += sign * np.bincount(at, minlength=len(touched))
    return Change(touched, sums, counts)


def _means(
    sums: NDArray[np.float64], counts: NDArray[np.int64], centroids: NDArray[np.float32], spherical: bool
) -> NDArray[np.float32]:
    """Mean of each cluster; empty ones keep their centroid."""
    means = sums / np.maximum(counts, 1)[:, None]
    if spherical:
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        means = means / np.where(lengths > 0, lengths, 1)
    return np.where(counts[:, None] > 0, means, centroids).astype(np.float32)
