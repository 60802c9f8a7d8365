"""The order of an epoch as a function of (seed, epoch): nothing to store, nothing to restore."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.counter_random import hash_words

_ROUNDS = 6
_ORDER_STREAM = 0x0DE5


def permuted(positions: NDArray[np.int64], n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Row at each position of the epoch's permutation of range(n), without holding the permutation.

    A balanced Feistel network permutes the next power of four; values past `n` walk on along their cycle until they
    fall inside (Black, Rogaway, "Ciphers with arbitrary finite domains", 2002), at most four steps on average.
    Raises ValueError where a position lies outside range(n).
    """
    positions = np.asarray(positions, dtype=np.int64)
    if positions.size and (positions.min() < 0 or positions.max() >= n):
        raise ValueError(f"positions must lie in range({n})")
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    values = _feistel(positions.astype(np.uint64), half_bits, seed, epoch)
    outside = values >= n
    while outside.any():
        values[outside] = _feistel(values[outside], half_bits, seed, epoch)
        outside = values >= n
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half_bits: int, seed: int, epoch: int) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for level in range(_ROUNDS):
        left, right = right, left ^ (hash_words(_ORDER_STREAM, seed, epoch, level, right) & mask)
    return (left << shift) | right


def steps_per_epoch(n: int, global_batch: int) -> int:
    """Whole batches in an epoch. The few rows that are left over change from epoch to epoch.

    Raises ValueError where there are fewer rows than a batch needs.
    """
    if n < global_batch:
        raise ValueError(f"{n} rows are fewer than one batch of {global_batch}")
    return n // global_batch


def epoch_of(step: int, n: int, global_batch: int) -> int:
    """The epoch that a step (counted from 0) belongs to."""
    return step // steps_per_epoch(n, global_batch)


def batch_rows(step: int, rank: int, world: int, global_batch: int, n: int, seed: int) -> NDArray[np.int64]:
    """Rows that a rank processes at a step: its slice of the global batch, which is the same for every `world`.

    No row occurs twice in an epoch. Raises ValueError where `world` does not divide `global_batch`.
    """
    if global_batch % world:
        raise ValueError(f"a global batch of {global_batch} does not divide among {world} ranks")
    local = global_batch // world
    within = step % steps_per_epoch(n, global_batch)
    first = within * global_batch + rank * local
    positions = np.arange(first, first + local, dtype=np.int64)
    return permuted(positions, n, seed, epoch_of(step, n, global_batch))
