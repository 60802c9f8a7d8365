import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from curation.candidates import Prints, Reach, find_pairs
from curation.fingerprints import hash_lumas
from curation.luma import luma_of

TURNS = [None, *Image.Transpose]


def turned_pairs(pdq: np.ndarray, usable: np.ndarray, radius: int, turned: bool) -> dict[tuple[int, int], int]:
    """Pairs by PDQ alone, with the bits in which they differ."""
    count = len(pdq)
    prints = Prints(np.zeros((count, 8), np.uint8), np.zeros(count, np.bool_), pdq, usable, np.eye(count))
    found = find_pairs(prints, Reach(cosine=2, confirm=-1, radius=-1, pdq_radius=radius, turned=turned))
    return dict(zip(zip(found.i.tolist(), found.j.tolist(), strict=True), found.pdq.tolist(), strict=True))


@pytest.mark.parametrize("turned", [False, True])
def test_turned_and_mirrored_photographs_are_pairs_where_asked_for(turned):
    photos = [Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")]
    forms = [photo if turn is None else photo.transpose(turn) for photo in photos for turn in TURNS]
    hashes = hash_lumas([luma_of(picture) for picture in forms])
    found = turned_pairs(hashes.pdq, np.ones(16, np.bool_), 31, turned)
    same = {(i, j) for i in range(16) for j in range(i + 1, 16) if i // 8 == j // 8}
    assert set(found) == (same if turned else set())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 60), st.integers(0, 255))
def test_pairs_are_those_of_all_comparisons(seed, count, radius, noise):
    rng = np.random.default_rng(seed)
    pdq = np.repeat(rng.integers(0, 256, (4, 8, 32), np.uint8), 3, axis=0)[:count]
    pdq = pdq ^ (rng.integers(0, 256, pdq.shape, np.uint8) & np.uint8(noise) & 0x11)
    pdq = np.ascontiguousarray(pdq[:, rng.permutation(8)])
    usable = rng.random(count) < 0.8
    bits = np.bitwise_count(pdq[:, None, :1] ^ pdq[None]).sum(axis=3).min(axis=2)
    expected = {
        (i, j): int(bits[i, j])
        for i in range(count)
        for j in range(i + 1, count)
        if bits[i, j] <= radius and usable[i] and usable[j]
    }
    assert turned_pairs(pdq, usable, radius, turned=True) == expected
