from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import batch_rows, epoch_of, permuted, shuffled, steps_per_epoch


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10_000))
def test_an_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    rows = permuted(np.arange(n), n, seed, epoch)
    assert np.array_equal(np.sort(rows), np.arange(n))


def test_epochs_and_seeds_differ_and_look_random() -> None:
    n = 5000
    first, second, other = (permuted(np.arange(n), n, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    assert (first == second).mean() < 0.01
    assert (first == other).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(n))[0, 1]) < 0.05
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 400),
    block=st.integers(1, 60),
    window=st.integers(1, 20),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 1000),
)
def test_windows_hold_each_row_once_and_few_blocks(n: int, block: int, window: int, seed: int, epoch: int) -> None:
    rows = shuffled(np.arange(n), n, seed, epoch, window=window, block=block)
    assert np.array_equal(np.sort(rows), np.arange(n))
    part = np.array([0, n // 2, n - 1])
    assert np.array_equal(shuffled(part, n, seed, epoch, window=window, block=block), rows[part])
    live, seen = 0, set[int]()
    left = np.bincount(rows // block)
    for number in (rows // block).tolist():
        live += number not in seen
        seen.add(number)
        left[number] -= 1
        live -= left[number] == 0
        assert live <= window


def test_a_window_is_shuffled_and_neighbouring_windows_hold_other_blocks_each_epoch() -> None:
    n, block, window = 4096, 32, 8
    first, second = (shuffled(np.arange(n), n, 5, epoch, window=window, block=block) for epoch in (0, 1))
    size = block * window
    assert abs(np.corrcoef(first[:size], np.arange(size))[0, 1]) < 0.2
    assert len(set((first[:size] // block).tolist())) == window
    assert len(set((first[:size] // block).tolist()) & set((second[:size] // block).tolist())) < window / 2


def test_the_short_block_is_not_always_last() -> None:
    """Else the rows that are left over of an epoch would be the same in each."""
    places = {int(np.flatnonzero(shuffled(np.arange(100), 100, 0, e, window=1, block=30) >= 90)[0]) for e in range(20)}
    assert len(places) > 2


@pytest.mark.parametrize("options", [{}, {"window": 64, "block": 256}], ids=["epoch", "window"])
def test_a_billion_rows_cost_nothing(options: dict[str, int]) -> None:
    n = 1_000_000_007
    tracemalloc.start()
    began = time.process_time()
    batches = [batch_rows(step, 0, 1, 256, n, 3, **options) for step in (0, 1_000_000, 3_900_000)]
    spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(len(set(rows.tolist())) == 256 and rows.max() < n for rows in batches)
    assert len({int(row) // 250_000_000 for rows in batches for row in rows}) >= 3
    assert peak < 1_000_000
    assert spent < 0.5


@settings(max_examples=40, deadline=None)
@given(n=st.integers(64, 500), step=st.integers(0, 100), seed=st.integers(0, 2**31), world=st.sampled_from([2, 4, 8]))
def test_ranks_share_out_the_same_global_batch(n: int, step: int, seed: int, world: int) -> None:
    alone = batch_rows(step, 0, 1, 64, n, seed)
    together = np.concatenate([batch_rows(step, rank, world, 64, n, seed) for rank in range(world)])
    assert np.array_equal(alone, together)


def test_no_row_twice_in_an_epoch() -> None:
    steps = steps_per_epoch(103, 10)
    rows = np.concatenate([batch_rows(step, 0, 1, 10, 103, 7) for step in range(steps)])
    assert len(set(rows.tolist())) == 100
    assert (epoch_of(steps - 1, 103, 10), epoch_of(steps, 103, 10)) == (0, 1)


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        batch_rows(0, 0, 3, 64, 100, 0)
    with pytest.raises(ValueError, match="fewer than one batch"):
        batch_rows(0, 0, 1, 64, 63, 0)
    with pytest.raises(ValueError, match="range"):
        permuted(np.array([5]), 5, 0, 0)
