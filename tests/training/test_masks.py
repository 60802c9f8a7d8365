from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.masks import hidden, hidden_indices, mask_counts, random_keep, random_units


@settings(max_examples=50, deadline=None)
@given(patches=st.integers(1, 300), ratio=st.floats(0.01, 0.99), rows=st.integers(1, 9))
def test_counts_are_exact(patches: int, ratio: float, rows: int) -> None:
    keep = random_keep(np.arange(rows), patches, ratio, seed=0, epoch=0)
    mask = hidden(keep, patches)
    assert keep.shape[1] >= 1
    assert abs(keep.shape[1] - patches * (1 - ratio)) <= 1
    assert torch.equal(mask.sum(1), torch.full((rows,), patches - keep.shape[1]))
    places = hidden_indices(keep, patches)
    assert [row.tolist() for row in places] == [row.nonzero().flatten().tolist() for row in mask]


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


@settings(max_examples=50, deadline=None)
@given(side=st.integers(1, 8), unit=st.integers(1, 4), ratio=st.floats(0.01, 0.99), rows=st.integers(1, 5))
def test_units_are_hidden_whole_and_in_exact_numbers(side: int, unit: int, ratio: float, rows: int) -> None:
    grid = (side * unit, side * unit)
    mask = random_units(np.arange(rows), grid, ratio, unit, seed=0, epoch=0).view(rows, side, unit, side, unit)
    squares = mask.any(dim=4).any(dim=2)
    assert torch.equal(squares, mask.all(dim=4).all(dim=2))
    count = int(squares[0].sum())
    assert count - 1 < side**2 * ratio + 1e-6
    assert count >= side**2 * ratio - 1e-6
    assert bool((squares.sum(dim=(1, 2)) == count).all())


def test_units_must_tile_the_grid() -> None:
    with pytest.raises(ValueError, match="do not tile"):
        random_units(np.arange(2), (7, 7), 0.5, 2, seed=0, epoch=0)


def test_counts_of_masked_crops() -> None:
    counts = mask_counts(np.arange(4000), 196, (0.1, 0.5), 0.5, seed=0, epoch=0)
    hidden_some = counts[counts > 0]
    assert 0.46 < len(hidden_some) / 4000 < 0.54
    assert hidden_some.min() == round(0.1 * 196)
    assert hidden_some.max() == round(0.5 * 196)
    assert abs(hidden_some.mean() / 196 - 0.3) < 0.01
    alone = mask_counts(np.array([17]), 196, (0.1, 0.5), 0.5, seed=0, epoch=0)
    assert alone[0] == counts[17]
    other = mask_counts(np.arange(4000), 196, (0.1, 0.5), 0.5, seed=0, epoch=0, view=1)
    assert (other != counts).mean() > 0.5
