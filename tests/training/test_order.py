from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import batch_rows, epoch_of, permuted, steps_per_epoch


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


def test_a_billion_rows_cost_nothing() -> None:
    rows = permuted(np.arange(256), 1_000_000_007, seed=3, epoch=0)
    assert len(set(rows.tolist())) == 256
    assert rows.max() > 500_000_000


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
