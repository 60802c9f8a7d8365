"""First centres for k-means, spread by the squared distance to those already chosen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curation.row_blocks import Rows

_ROWS_PER_CENTRE = 32
GREEDY = 1024  # centres up to which one at a time, the best of several, is worth its price
_ROUNDS = 256
_NOISE = 3e-5


def sample_rows(points: Rows, clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """32 rows of (N, d) a cluster, in their order, or all where there are fewer."""
    size = min(len(points), _ROWS_PER_CENTRE * clusters)
    chosen = np.arange(size) if size == len(points) else np.sort(rng.choice(len(points), size, replace=False))
    return np.ascontiguousarray(points[chosen], dtype=np.float32)


def spread_centres(rows: NDArray[np.float32], clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(clusters, d) of the (N, d) rows to start k-means from.

    Up to 1,024 clusters: greedy k-means++ (Arthur, Vassilvitskii, 2007, with 2 + ln k trials). Beyond: k-means||
    (Bahmani et al., 2012, arXiv:1203.6402) with clusters / 256 centres a round, which needs no reduction at the end.
    An exponential race with the rates of the squared distances draws the candidates, without replacement; unlike a
    cumulative sum, whose borders move with every rounding error, its outcome does not hang on the last bits.
    """
    first = int(rng.integers(len(rows)))
    squares = np.einsum("nd,nd->n", rows, rows)
    nearest = _squared_distances(rows, squares, np.array([first]))[0]
    free = np.ones(len(rows), np.bool_)
    free[first] = False
    return rows[[first, *further_centres(rows, nearest, free, clusters - 1, clusters, rng)]]


def further_centres(
    rows: NDArray[np.float32],
    nearest: NDArray[np.float32],
    free: NDArray[np.bool_],
    count: int,
    clusters: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """`count` more of the (N, d) rows as centres, drawn as in `spread_centres` for so many `clusters`.

    nearest: (N,) squared distances to the centres that are there. free: (N,) rows that may become one; not fewer than
    `count`.
    """
    greedy = clusters <= GREEDY
    trials = 2 + int(math.log(clusters)) if greedy else math.ceil(clusters / _ROUNDS)
    squares = np.einsum("nd,nd->n", rows, rows)
    free, chosen = free.copy(), np.zeros(0, np.int64)
    while len(chosen) < count:
        wanted = min(trials, int(free.sum()) if greedy else count - len(chosen))
        candidates = _fastest(nearest, free, wanted, rng)
        reached = np.minimum(_squared_distances(rows, squares, candidates), nearest)
        if greedy:
            best = int(reached.sum(axis=1, dtype=np.float64).argmin())
            candidates, reached = candidates[best : best + 1], reached[best : best + 1]
        chosen = np.append(chosen, candidates)
        free[candidates] = False
        nearest = reached.min(axis=0)
    return chosen


def _fastest(
    nearest: NDArray[np.float32], free: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """`count` free rows whose clocks, with rates of their squared distance, ring first; ties by row."""
    clocks = rng.standard_exponential(len(nearest), dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        clocks /= nearest
    clocks[nearest <= 0] = np.finfo(np.float32).max  # equal to a centre: only when nothing else is left
    clocks[~free] = np.inf
    found = np.argpartition(clocks, count - 1)[:count] if count < len(clocks) else np.arange(len(clocks))
    return found[np.lexsort((found, clocks[found]))]


def _squared_distances(
    rows: NDArray[np.float32], squares: NDArray[np.float32], centres: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(centres, N) squared distances; what is below the noise of float32 is zero, so equal rows are at 0."""
    found = np.ascontiguousarray((rows @ rows[centres].T).T)  # a third faster than the product the other way round
    found *= -2
    found += squares
    found += squares[centres][:, None]
    return np.where(found > _NOISE * (squares + squares[centres].max()), found, np.float32(0))
