"""The order of an epoch as a function of (seed, epoch): nothing to store, nothing to restore."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.counter_random import Words, hash_words, hashed_on

Positions = NDArray[np.int64]

_ROUNDS = 6
_ORDER_STREAM = 0x0DE5
_BLOCK_STREAM = 0xB10C
_WINDOW_STREAM = 0x3140
_SHORT_STREAM = 0x5047


def permuted(positions: Positions, n: int, seed: int, epoch: int, stream: int = _ORDER_STREAM) -> Positions:
    """Row at each position of the epoch's permutation of range(n), without holding the permutation.

    A balanced Feistel network permutes the next power of four; values past `n` walk on along their cycle until they
    fall inside (Black, Rogaway, "Ciphers with arbitrary finite domains", 2002), at most four steps on average.
    stream: which of the epoch's permutations. Raises ValueError where a position lies outside range(n).
    """
    positions = np.asarray(positions, dtype=np.int64)
    if positions.size and (positions.min() < 0 or positions.max() >= n):
        raise ValueError(f"positions must lie in range({n})")
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = hash_words(stream, seed, epoch, np.arange(_ROUNDS, dtype=np.uint64))
    values = _feistel(positions.astype(np.uint64), half_bits, keys)
    outside = np.flatnonzero(values >= n)
    while len(outside):
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = outside[values[outside] >= n]
    return values.astype(np.int64)


def _feistel(values: Words, half_bits: int, keys: Words) -> Words:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (hashed_on(key, right) & mask)
    return (left << shift) | right


def shuffled(positions: Positions, n: int, seed: int, epoch: int, *, window: int = 0, block: int = 1) -> Positions:
    """Row at each position of an epoch whose reads stay together: a bijection of range(n).

    Blocks of `block` neighbouring rows are permuted; then the rows of each `window` blocks that follow each other are
    permuted among themselves, so that while a window is read no other block is touched. Where n is no multiple of
    `block`, the short block's place is drawn anew in each epoch. window: 0 permutes all rows alike.
    Raises ValueError where a position lies outside range(n).
    """
    if window == 0 or window * block >= n:
        return permuted(positions, n, seed, epoch)
    blocks = _Blocks(n, block, seed, epoch)
    positions = np.array(positions, dtype=np.int64)
    if positions.size and (positions.min() < 0 or positions.max() >= n):
        raise ValueError(f"positions must lie in range({n})")
    windows = blocks.at(positions) // window
    for number in np.unique(windows).tolist():
        start, stop = blocks.start(number * window), min(n, blocks.start((number + 1) * window))
        inside = windows == number
        key = int(hash_words(_WINDOW_STREAM, seed, number)[0])
        positions[inside] = start + permuted(positions[inside] - start, stop - start, key, epoch)
    return blocks.rows(positions)


class _Blocks:
    """The blocks of range(n) in the epoch's order. Block k of the order begins at position `start(k)`."""

    def __init__(self, n: int, block: int, seed: int, epoch: int) -> None:
        self.n, self.block, self.seed, self.epoch = n, block, seed, epoch
        self.full, tail = divmod(n, block)
        self.missing = block - tail if tail else 0
        # where all blocks are full, the missing part of the short one is empty and its place says nothing
        self.short = int(hash_words(_SHORT_STREAM, seed, epoch)[0] % np.uint64(self.full + 1))

    def start(self, k: int) -> int:
        return k * self.block - (self.missing if k > self.short else 0)

    def at(self, positions: Positions) -> Positions:
        """The number in the order of the block that holds each position."""
        past = positions >= (self.short + 1) * self.block - self.missing
        return (positions + np.where(past, self.missing, 0)) // self.block

    def rows(self, positions: Positions) -> Positions:
        order = self.at(positions)
        past = order > self.short if self.missing else np.zeros(len(order), np.bool_)
        within = positions - order * self.block + np.where(past, self.missing, 0)
        is_short = (order == self.short) & bool(self.missing)
        numbers = np.where(is_short, 0, order - past)
        found = permuted(numbers, self.full, self.seed, self.epoch, _BLOCK_STREAM)
        return np.where(is_short, self.full, found) * self.block + within


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


def rank_slice(batch: int, rank: int, world: int, global_batch: int) -> Positions:
    """Positions of a rank's samples in the epoch's batch number `batch`; the same samples for every `world`.

    Raises ValueError where `world` does not divide `global_batch`.
    """
    if global_batch % world:
        raise ValueError(f"a global batch of {global_batch} does not divide among {world} ranks")
    local = global_batch // world
    first = batch * global_batch + rank * local
    return np.arange(first, first + local, dtype=np.int64)


def batch_rows(
    step: int,
    rank: int,
    world: int,
    global_batch: int,
    n: int,
    seed: int,
    *,
    window: int = 0,
    block: int = 1,
) -> Positions:
    """Rows that a rank processes at a step: its slice of the global batch, which is the same for every `world`.

    No row occurs twice in an epoch. window, block: as in `shuffled`. Raises ValueError where `world` does not divide
    `global_batch`.
    """
    epoch, batch = divmod(step, steps_per_epoch(n, global_batch))
    positions = rank_slice(batch, rank, world, global_batch)
    return shuffled(positions, n, seed, epoch, window=window, block=block)
