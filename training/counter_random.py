"""Random numbers as a function of what they are for: counter-based, so nothing depends on order, ranks or resumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT_30, _SHIFT_27, _SHIFT_31 = np.uint64(30), np.uint64(27), np.uint64(31)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).

    A bijection of 64-bit words in which every input bit reaches every output bit; elementwise.
    """
    words = (words ^ (words >> _SHIFT_30)) * _FIRST
    words = (words ^ (words >> _SHIFT_27)) * _SECOND
    return words ^ (words >> _SHIFT_31)


def hash_words(*parts: int | Words) -> Words:
    """One 64-bit hash of the parts in their order; arrays broadcast against each other."""
    return hashed_on(np.zeros(1, dtype=np.uint64), *parts)


def hashed_on(state: Words, *parts: int | Words) -> Words:
    """The hash of further parts: `hashed_on(hash_words(a), b)` is `hash_words(a, b)`."""
    for part in parts:
        state = mix((state ^ _as_words(part)) * _SECOND + _GOLDEN)
    return state


def uniforms(count: int, *parts: int | Words) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) for each element of the broadcast parts: shape (elements, count).

    Every number has 53 random bits. The same parts give the same numbers, in whatever company they are asked for.
    """
    keys = hash_words(*parts).reshape(-1, 1)
    counters = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return (mix(keys + counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _as_words(part: int | Words) -> Words:
    if isinstance(part, int):
        return np.array([part & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    return np.asarray(part).astype(np.uint64)
