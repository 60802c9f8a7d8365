"""What makes an objective the one of its name, and which test says so. What nothing else proves is proven here."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from tests.training.objectives.small_models import (
    OBJECTIVES,
    ONLY_TARGETS,
    SETTINGS,
    SMALL_VIT,
    double_views,
    small_objective,
)
from training.backbones.building import build_backbone
from training.jepa_masks import multi_block
from training.losses.barlow import barlow_twins
from training.losses.koleo import koleo_of_views
from training.losses.reconstruction import patchify
from training.losses.sinkhorn import sinkhorn_knopp
from training.objectives.base import StepState, create

STATE = StepState(step=0, steps=10, epoch=0, seed=1)

EVERY = {
    "value and gradients are the paper's": "objectives.test_golden.test_value_and_gradients_are_those_of_the_paper",
    "N ranks are one": "objectives.test_ranks.test_more_ranks_equal_one_and_each_other",
    "nothing collapses": "objectives.test_proofs.test_the_loss_falls_and_features_do_not_collapse",
}
OWN = {
    "simclr": {"negatives of all ranks": "objectives.test_ranks.test_more_ranks_equal_one_and_each_other"},
    "dcl": {"an easy pair still teaches": "losses.test_contrastive.test_an_easy_pair_still_teaches"},
    "moco_v3": {"a frozen patch projection": "objectives.test_works_when.test_moco_freezes_the_patch_projection"},
    "byol": {
        "the teacher follows": "objectives.test_proofs.test_what_does_not_learn_by_gradients_moves_after_the_step"
    },
    "barlow_twins": {"correlations fall": "objectives.test_works_when.test_redundancy_falls"},
    "vicreg": {"its three terms": "losses.test_batch_statistics.test_vicregs_terms_are_their_formulas"},
    "swav": {"balanced codes": "objectives.test_works_when.test_swavs_codes_use_prototypes_alike"},
    "dino": {"the centre": "losses.test_self_distillation.test_the_centre_is_a_moving_mean_of_what_was_seen"},
    "ibot": {"patches count by their image": "losses.test_self_distillation.test_patches_count_by_their_image"},
    "dinov2": {"KoLeo": "losses.test_batch_statistics.test_koleo_is_its_formula_and_lightly_agrees"},
    "msn": {
        "masked patches cost nothing": "objectives.test_anchors_and_classes.test_masked_patches_of_msn_cost_nothing"
    },
    "densecl": {
        "pairs": "objectives.test_anchors_and_classes.test_densecl_pairs_cells_and_contrasts_them_with_the_queue",
        "queues": "objectives.test_anchors_and_classes.test_densecl_fills_both_queues_with_the_keys_of_both_views",
    },
    "mae": {"visible patches do not count": "losses.test_reconstruction.test_visible_patches_do_not_count"},
    "simmim": {"only hidden patches": "losses.test_regression.test_masked_l1_counts_hidden_patches_alone"},
    "maskfeat": {
        "HOG is skimage's": "test_hog.test_skimage_agrees",
        "contrast normalisation": "test_hog.test_contrast_and_brightness_of_a_channel_do_not_matter",
    },
    "ijepa": {
        "the sampler": "test_jepa_masks.test_counts_are_exact_and_context_and_targets_are_apart",
        "the context sees nothing else": "objectives.test_works_when.test_ijepas_context_does_not_see_the_targets",
    },
    "diet": {
        "a bound": "objectives.test_anchors_and_classes.test_diet_needs_a_known_number_of_images_within_its_bound"
    },
    "weighted_sum": {
        "its terms": "objectives.test_weighted_sum.test_the_backbone_is_counted_once_and_every_term_is_logged"
    },
}
"""Comparisons with the same backbone untrained, with other batch sizes and with each other are the ladder's
(tests/benchmarks/ladder.py), since they need thousands of pictures and minutes."""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_claim_has_its_test(name: str) -> None:
    for path in {**EVERY, **OWN[name]}.values():
        module, test = path.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(f"tests.training.{module}"), test)), path


def test_moco_freezes_the_patch_projection() -> None:
    for frozen in (True, False):
        backbone = build_backbone({"backbone": SMALL_VIT, "seed": 0})
        heads = {"projection": {"hidden": 32, "out": 16}, "prediction": {"hidden": 32, "out": 16}}
        objective = create({"name": "moco_v3", "freeze_patch_embed": frozen, **heads}, backbone, 8).double().train()
        objective(double_views("moco_v3", np.arange(8)), STATE).total.backward()
        embedding = backbone.model.get_submodule("patch_embed")
        assert [p.grad is None for p in embedding.parameters()] == [frozen, frozen]


def test_redundancy_falls() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator) + 2  # all features say much the same
    alike = torch.randn(64, 8, generator=generator) @ mixing
    views = [(alike + 0.1 * torch.randn(64, 8, generator=generator)).requires_grad_() for _ in range(2)]
    optimiser = torch.optim.Adam(views, lr=0.1)
    found = []
    for _ in range(200):
        loss, redundancy = barlow_twins(views[0], views[1], 0.0051)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(redundancy.detach()))
    assert found[-1] < 0.2 * found[0]


def test_swavs_codes_use_prototypes_alike() -> None:
    logits = torch.randn(48, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    codes = sinkhorn_knopp(logits / 10, 0.05, 100)
    assert not codes.requires_grad
    torch.testing.assert_close(codes.sum(dim=0), torch.full((24,), 2.0, dtype=torch.float64), rtol=1e-3, atol=0)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(48, dtype=torch.float64), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["byol", "dino", "ibot", "swav", "msn"])
@pytest.mark.parametrize("of", ["features", "head"])
def test_koleo_adds_to_the_loss(name: str, of: str) -> None:
    views, totals = double_views(name, np.arange(8)), []
    spec, parameters = SETTINGS[name]
    for weight in (0.0, 0.5):
        backbone = build_backbone({"backbone": spec, "seed": 0})
        torch.manual_seed(0)
        objective = (
            create({"name": name, **parameters, "koleo_weight": weight, "koleo_on": of}, backbone, 8).double().train()
        )
        totals.append(objective(views, STATE))
    features, full = totals[1].features, 2 - ONLY_TARGETS.get(name, 0)
    if of == "features":
        embedded = list(features.split(8))
    elif name == "byol":
        embedded = [objective.projector(view) for view in features.split(8)]
    else:
        embed = objective.projector if name in ("swav", "msn") else objective.head.embedded
        embedded = list(embed(features).split(8))
    spread = koleo_of_views(embedded[:full])
    torch.testing.assert_close(totals[1].total, totals[0].total + 0.5 * spread)
    torch.testing.assert_close(totals[1].terms["koleo"], spread.detach())


def test_ijepas_context_does_not_see_the_targets() -> None:
    objective = small_objective("ijepa").double().train()
    views = double_views("ijepa", np.arange(4))
    views.crops.requires_grad_()
    blocks = multi_block(np.arange(4), (4, 4), seed=STATE.seed, epoch=0, step=0, targets=4, context_share=0.33)
    features = objective(views, STATE).features
    (features * torch.arange(features.numel(), dtype=torch.float64).view_as(features)).sum().backward()
    assert views.crops.grad is not None
    reached = patchify(views.crops.grad, 8).abs().sum(dim=2) > 0  # (B, 16)
    context = torch.zeros_like(reached).scatter(1, blocks.context, True)
    assert torch.equal(reached, context)
    assert not context.gather(1, blocks.targets.flatten(1)).any()
