"""What is drawn as hidden is what the objective hides, at the samples, the step and the epoch of the training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.samples import encoded_pictures
from training.block_masks import block_masks
from training.decoding import canvas
from training.hidden_patches import hidden_patches
from training.jepa_masks import multi_block
from training.masks import hidden, random_keep, random_units
from training.objectives import catalogue
from training.objectives.base import StepState
from training.recipes import ViewRecipe, multi_crop, one_crop
from training.views import Views, make_views

SIZE, PATCH, GRID = 64, 8, (8, 8)
ROWS = np.array([3, 11, 19, 40])
STATE = StepState(step=70, steps=100, epoch=2, seed=5)


def views_of(recipe: ViewRecipe) -> Views:
    canvases = [canvas(data, 1, SIZE) for data, _ in encoded_pictures(len(ROWS))]
    return make_views(
        torch.from_numpy(np.stack([c.pixels for c in canvases])), np.array([c.aspect for c in canvases]), ROWS,
        recipe, size=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), seed=STATE.seed, epoch=STATE.epoch,
    )  # fmt: skip


def found(objective: dict[str, Any], recipe: ViewRecipe) -> Any:
    views = views_of(recipe)
    return hidden_patches(catalogue.resolve(objective), [(views, STATE)], PATCH, 64)[0]


SEEDED = {"seed": STATE.seed, "epoch": STATE.epoch}
DECODER = {"dim": 32, "depth": 1, "heads": 2}
EXPECTED = {
    "mae": hidden(random_keep(ROWS, 64, 0.75, **SEEDED), 64),
    "simmim": random_units(ROWS, GRID, 0.6, 2, **SEEDED),
    "maskfeat": block_masks(ROWS, GRID, np.full(4, round(0.4 * 64)), **SEEDED),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_masked_objectives_hide_what_their_rule_says(name: str) -> None:
    given = {"name": name, "decoder": DECODER} if name == "mae" else {"name": name}
    masks = found(given, one_crop())
    assert sorted(masks) == [(0, row) for row in range(4)]
    for row, mask in enumerate(EXPECTED[name]):
        (entry,) = masks[0, row]
        assert np.array_equal(entry.hidden, mask.view(GRID).numpy())
        assert entry.targets.shape == (0, *GRID)


def test_a_predictive_objective_shows_context_and_target_blocks() -> None:
    masks = found({"name": "ijepa", "predictor": {"dim": 16, "depth": 1, "heads": 1}}, one_crop())
    blocks = multi_block(ROWS, GRID, **SEEDED, step=STATE.step, context_share=0.33)
    for row in range(4):
        (entry,) = masks[0, row]
        assert np.array_equal(np.flatnonzero(~entry.hidden), blocks.context[row].numpy())
        assert [np.flatnonzero(block).tolist() for block in entry.targets] == blocks.targets[row].tolist()
        assert not (entry.targets.any(axis=0) & ~entry.hidden).any()


def test_the_masked_view_of_several_is_told() -> None:
    views = multi_crop(local_crops=2)
    small = {"hidden": 16, "out": 8}
    masks = found({"name": "msn", "projection": small, "prototypes": 8}, replace(views, local_size=24))
    assert sorted(masks) == [(0, row) for row in range(4, 8)]  # the first view is the whole target
    keep = random_keep(ROWS, 64, 0.15, **SEEDED, view=1)
    assert np.array_equal(masks[0, 5][0].hidden.ravel(), hidden(keep, 64)[1].numpy())


def test_terms_of_a_sum_are_watched_and_whole_views_are_absent() -> None:
    terms = [{"name": "simclr", "projection": {"hidden": 8, "out": 8}}, {"name": "mae", "decoder": DECODER}]
    masks = found({"name": "weighted_sum", "terms": terms}, replace(one_crop(), crops=2))
    assert sorted(masks) == [(0, row) for row in range(4)]
    simclr = {"name": "simclr", "projection": {"hidden": 8, "out": 8}}
    assert found(simclr, replace(one_crop(), crops=2)) == {}


def test_steps_differ_and_nothing_random_is_left_behind() -> None:
    views = views_of(one_crop())
    before = torch.random.get_rng_state()
    steps = [(views, STATE), (views, replace(STATE, epoch=3))]
    first, second = hidden_patches(catalogue.resolve("simmim"), steps, PATCH)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not np.array_equal(first[0, 0][0].hidden, second[0, 0][0].hidden)
    again = hidden_patches(catalogue.resolve("simmim"), steps[1:], PATCH)[0]
    assert np.array_equal(again[0, 0][0].hidden, second[0, 0][0].hidden)
