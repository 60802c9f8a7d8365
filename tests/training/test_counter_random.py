from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.counter_random import hash_words, mix, uniforms


def test_the_finaliser_is_splitmix64() -> None:
    # First outputs of SplitMix64 from seed 0, as published with its reference implementation.
    golden = np.uint64(0x9E3779B97F4A7C15)
    states = np.arange(1, 4, dtype=np.uint64) * golden
    assert [hex(int(word)) for word in mix(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), rows=st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_numbers_do_not_depend_on_company(seed: int, rows: list[int]) -> None:
    together = uniforms(5, seed, 3, np.array(rows, dtype=np.uint64))
    alone = np.concatenate([uniforms(5, seed, 3, np.array([row], dtype=np.uint64)) for row in rows])
    assert np.array_equal(together, alone)


def test_numbers_are_uniform_and_uncorrelated() -> None:
    numbers = uniforms(8, 1, np.arange(20_000, dtype=np.uint64))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.allclose(numbers.mean(0), 0.5, atol=0.01)
    assert np.allclose(numbers.var(0), 1 / 12, atol=0.002)
    correlations = np.corrcoef(numbers.T) - np.eye(8)
    assert np.abs(correlations).max() < 0.03


def test_the_order_of_parts_matters() -> None:
    assert hash_words(1, 2)[0] != hash_words(2, 1)[0]
