"""Centroids that k-means would hardly miss, moved to where they lower its potential."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.assignment import Assignment
from curation.lloyd import LocalParts, lloyd
from curation.seeding import further_centres

_ROUNDS = 6
_SHARE = 1 / 20
_SETTLING = 2  # Lloyd iterations between two rounds
_LEAST_GAIN = 1e-4  # far above the noise of float32, so that no rounding decides


@dataclass(frozen=True)
class _Settled:
    """centroids: (k, d). labels: (N,). nearest, second: (N,) squared distances to the two nearest centroids."""

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    nearest: NDArray[np.float32]
    second: NDArray[np.float32]

    @property
    def potential(self) -> float:
        return float(self.nearest.sum(dtype=np.float64))


def relocate(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], rng: np.random.Generator, *, spherical: bool = False
) -> NDArray[np.float32]:
    """Better (k, d) centroids for (N, d) rows by a local search around Lloyd's iteration.

    Each round takes away a twentieth of the centroids, those that the potential would grow least without, and puts
    as many elsewhere by greedy k-means++; it ends after 6 rounds, or when the potential falls by less than a
    ten-thousandth. Such swaps come within a constant factor of the best potential (Kanungo et al., "A local search
    approximation algorithm for k-means clustering", 2004). Many go at once, but never neighbours, which would leave
    their rows to nobody (Fritzke, "The breathing k-means algorithm", 2020, arXiv:2006.15666).
    """
    best, free = _settled(rows, centroids, spherical), np.ones(len(rows), np.bool_)
    for _ in range(_ROUNDS if 1 < len(centroids) < len(rows) else 0):
        gone = _dispensable(best)
        distances = np.where(np.isin(best.labels, gone), best.second, best.nearest)
        moved = best.centroids.copy()
        moved[gone] = rows[further_centres(rows, distances, free, len(gone), len(centroids), rng)]
        found = _settled(rows, moved, spherical)
        if found.potential >= (1 - _LEAST_GAIN) * best.potential:
            break
        best = found
    return best.centroids


def _settled(rows: NDArray[np.float32], centroids: NDArray[np.float32], spherical: bool) -> _Settled:
    centroids = lloyd(LocalParts(rows), centroids, iterations=_SETTLING, spherical=spherical)
    found = Assignment(rows)
    found.update(centroids)
    return _Settled(centroids, found.labels, found.upper**2, found.lower**2)


def _dispensable(found: _Settled) -> NDArray[np.int64]:
    """The centroids to take away, cheapest first: (k / 20,), fewer where they would be neighbours.

    The price of one is what its rows' squared distances grow by when each goes to its second nearest centroid.
    """
    count = len(found.centroids)
    prices = np.bincount(found.labels, found.second - found.nearest, count)
    lengths = np.einsum("kd,kd->k", found.centroids, found.centroids)
    between = lengths - 2 * found.centroids @ found.centroids.T
    np.fill_diagonal(between, np.inf)
    neighbours = between.argmin(axis=1).tolist()
    gone: list[int] = []
    kept: set[int] = set()
    for cluster in np.argsort(prices, kind="stable").tolist():
        if len(gone) == math.ceil(_SHARE * count):
            break
        if cluster not in kept and neighbours[cluster] not in gone:
            gone.append(cluster)
            kept.add(neighbours[cluster])
    return np.array(gone)
