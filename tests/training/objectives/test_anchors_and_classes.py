"""MSN, DenseCL and DIET against their papers' formulas written out, with the gradients of every input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightly.loss
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from tests.training.objectives.small_models import VIT, double_views, small_objective
from training.backbones.building import build_backbone
from training.losses.dense_contrast import corresponding_cells, dense_info_nce
from training.losses.instance_classes import instance_cross_entropy
from training.objectives.base import StepState, create

STATE = StepState(step=0, steps=10, epoch=0, seed=1)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_msn_is_the_loss_of_its_paper() -> None:
    """Equation 1 with sharpened and balanced targets, through the objective's own forward pass; and lightly's."""
    objective = small_objective("msn").double().train()
    views = double_views("msn", np.arange(8))
    B = 8
    losses = objective(views, STATE)
    losses.total.backward()
    prototypes = objective.prototypes.weight
    found = prototypes.grad.clone()
    with torch.no_grad():
        anchors = objective.projector(losses.features)
        target = objective.teacher["projector"](objective.teacher["backbone"](views.crops[:B]).pooled)
    weight = prototypes.detach().clone().requires_grad_()
    theirs = lightly.loss.MSNLoss(temperature=0.1, sinkhorn_iterations=3, regularization_weight=1.0)(
        anchors, target, normalize(weight, dim=1), target_sharpen_temperature=0.25
    )
    theirs.backward()
    torch.testing.assert_close(found, weight.grad, rtol=1e-6, atol=1e-9)
    assert float(losses.total.detach()) == pytest.approx(float(theirs.detach()), rel=1e-6)


def test_masked_patches_of_msn_cost_nothing() -> None:
    backbone = build_backbone({"backbone": VIT, "seed": 0})
    seen: list[int] = []
    backbone.model.blocks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[1]))
    objective = create({"name": "msn", "prototypes": 8, "mask_ratio": 0.5}, backbone, 8).double()
    whole = double_views("msn", np.arange(4))
    objective(replace(whole, groups=whole.groups[:1]), STATE)
    assert seen[0] - 1 == 16 // 2  # the anchor's class token and half of its patches


def test_densecl_pairs_cells_and_contrasts_them_with_the_queue() -> None:
    features, others = _random(2, 5, 4), _random(2, 6, 4, seed=1)
    places = corresponding_cells(features, others)
    for b in range(2):
        for cell in range(5):
            cosines = [float(cosine_similarity(features[b, cell], other, dim=0)) for other in others[b]]
            assert int(places[b, cell]) == int(np.argmax(cosines))
    queries, keys, queue = _random(2, 5, 3, seed=2).requires_grad_(), _random(2, 6, 3, seed=3), _random(7, 3, seed=4)
    dense_info_nce(queries, keys, places, 0.2, queue).backward()
    found, queries.grad = queries.grad, None
    rows = []
    for b in range(2):
        for cell in range(5):
            query = queries[b, cell] / queries[b, cell].norm()
            own = torch.exp(query @ normalize(keys[b, int(places[b, cell])], dim=0) / 0.2)
            rows.append(-torch.log(own / (own + sum(torch.exp(query @ (k / k.norm()) / 0.2) for k in queue))))
    expected = torch.stack(rows).mean()
    expected.backward()
    assert float(dense_info_nce(queries.detach(), keys, places, 0.2, queue)) == pytest.approx(
        float(expected.detach()), rel=1e-12
    )
    torch.testing.assert_close(found, queries.grad)


def test_densecl_fills_both_queues_with_the_keys_of_both_views() -> None:
    objective = small_objective("densecl").double().train()
    for step in range(3):
        objective(double_views("densecl", np.arange(8)), replace(STATE, step=step))
        assert int(objective.queue.pushed) == int(objective.dense_queue.pushed) == 16 * (step + 1)
    assert bool(objective.queue.filled.all())  # 48 keys have gone round a queue of 40
    norms = torch.cat([objective.queue.features, objective.dense_queue.features]).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_diet_is_a_smoothed_cross_entropy_over_images() -> None:
    logits, classes = _random(3, 6).requires_grad_(), torch.tensor([4, 0, 5])
    instance_cross_entropy(logits, classes, 0.8).backward()
    found, logits.grad = logits.grad, None
    labels = torch.full((3, 6), 0.8 / 6, dtype=torch.float64)
    labels[torch.arange(3), classes] += 0.2
    expected = -(labels * (logits - logits.logsumexp(dim=1, keepdim=True))).sum(dim=1).mean()
    expected.backward()
    assert float(instance_cross_entropy(logits.detach(), classes, 0.8)) == pytest.approx(
        float(expected.detach()), rel=1e-12
    )
    torch.testing.assert_close(found, logits.grad)


def test_diets_rows_may_be_directions_that_centred_features_meet() -> None:
    spec = {"name": "diet", "centre": True, "temperature": 0.2, "first_rows": 0.5, "smoothing": 0.1}
    objective: Any = create(spec, build_backbone({"backbone": VIT, "seed": 0}), 40).double().train()
    views = double_views("diet", np.arange(8))
    losses = objective(views, STATE)
    features, weight = losses.features.detach(), objective.classifier.weight.detach()
    centred = (features - features.mean(dim=0)) / (features.var(dim=0, unbiased=False) + 1e-5).sqrt()
    logs = (normalize(centred, dim=1) @ normalize(weight, dim=1).T / 0.2).log_softmax(dim=1)
    expected = -(0.9 * logs[torch.arange(8), torch.arange(8)] + 0.1 * logs.mean(dim=1)).mean()
    assert float(losses.total.detach()) == pytest.approx(float(expected), rel=1e-9)


def test_small_rows_turn_to_their_image_at_its_first_visit() -> None:
    """With the paper's rows, a step is short against where they began."""
    found = []
    for size in (1.0, 0.001):
        spec = {"name": "diet", "centre": True, "temperature": 0.1, "first_rows": size, "smoothing": 0.0}
        objective: Any = create(spec, build_backbone({"backbone": VIT, "seed": 0}), 40).double().train()
        optimiser = torch.optim.AdamW(objective.classifier.parameters(), lr=1e-3)
        losses = objective(double_views("diet", np.arange(8)), STATE)
        losses.total.backward()
        optimiser.step()
        rows = objective.classifier.weight.detach()[:8]
        found.append(cosine_similarity(rows, objective.norm(losses.features.detach()), dim=1))
    assert float(found[0].max()) < 0.5 < float(found[1].min())


@pytest.mark.parametrize("rows", [0, 1, 21])
def test_diet_needs_a_known_number_of_images_within_its_bound(rows: int) -> None:
    with pytest.raises(ValueError, match="it takes 2 to 20"):
        create({"name": "diet", "most_rows": 20}, build_backbone({"backbone": VIT, "seed": 0}), rows)
