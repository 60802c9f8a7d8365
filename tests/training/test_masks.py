from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.masks import hidden, random_keep


@settings(max_examples=50, deadline=None)
@given(patches=st.integers(1, 300), ratio=st.floats(0.01, 0.99), rows=st.integers(1, 9))
def test_counts_are_exact(patches: int, ratio: float, rows: int) -> None:
    keep = random_keep(np.arange(rows), patches, ratio, seed=0, epoch=0)
    mask = hidden(keep, patches)
    assert keep.shape[1] >= 1
    assert abs(keep.shape[1] - patches * (1 - ratio)) <= 1
    assert torch.equal(mask.sum(1), torch.full((rows,), patches - keep.shape[1]))


@pytest.mark.parametrize(("patches", "kept"), [(196, 49), (64, 16), (256, 64)])
def test_a_quarter_is_a_quarter(patches: int, kept: int) -> None:
    assert random_keep(np.arange(2), patches, 0.75, seed=0, epoch=0).shape == (2, kept)


def test_masks_belong_to_samples() -> None:
    together = random_keep(np.array([3, 8, 1]), 64, 0.75, seed=4, epoch=2)
    alone = random_keep(np.array([8]), 64, 0.75, seed=4, epoch=2)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, random_keep(np.array([3, 8, 1]), 64, 0.75, seed=4, epoch=3))


def test_every_patch_is_hidden_alike() -> None:
    mask = hidden(random_keep(np.arange(4000), 64, 0.75, seed=0, epoch=0), 64)
    assert torch.allclose(mask.float().mean(0), torch.tensor(0.75), atol=0.04)
