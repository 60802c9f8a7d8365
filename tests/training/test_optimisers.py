from __future__ import annotations

import itertools
import math

import pytest
import timm
import torch
from torch import nn

from training.optimisers import LARS, make_optimiser, parameter_groups
from training.schedules import cosine_with_warmup


def test_only_matrices_decay() -> None:
    vit = timm.create_model("test_vit", num_classes=0)
    decayed, spared = parameter_groups(vit, 0.1)
    names = {id(p): name for name, p in vit.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    spared_names = {names[id(p)] for p in spared["params"]}
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.attn.qkv.bias"} <= spared_names
    assert "blocks.0.attn.qkv.weight" not in spared_names
    assert len(decayed["params"]) + len(spared["params"]) == len(list(vit.parameters()))


def test_lars_takes_steps_of_the_size_of_the_tensor() -> None:
    weight = nn.Parameter(torch.full((4,), 3.0))
    weight.grad = torch.full((4,), 1e6)
    LARS([{"params": [weight], "weight_decay": 1e-12}], lr=1.0, trust=0.01).step()
    assert torch.allclose(weight.detach(), torch.full((4,), 3.0 * 0.99), rtol=1e-5)


@pytest.mark.parametrize(("name", "lr"), [("adamw", 0.05), ("sgd", 0.05), ("lars", 1.0)])
def test_every_optimiser_descends(name: str, lr: float) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    inputs = torch.randn(64, 8)
    targets = inputs.sum(1, keepdim=True)
    optimiser = make_optimiser(name, model, lr=lr, weight_decay=1e-4, momentum=0.9, beta2=0.999)
    losses = []
    for _ in range(500):
        loss = (model(inputs) - targets).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_unknown_optimisers_are_named() -> None:
    with pytest.raises(ValueError, match="adamw, sgd, lars"):
        make_optimiser("adam", nn.Linear(1, 1), lr=1, weight_decay=0, momentum=0, beta2=0.9)


def test_cosine_rises_then_falls() -> None:
    rates = [cosine_with_warmup(step, 110, 10, 2.0) for step in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == pytest.approx(2.0)
    assert rates[10] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    middle = 10 + 99 / 3
    assert cosine_with_warmup(round(middle), 110, 10, 2.0) == pytest.approx(1 + math.cos(math.pi / 3), rel=1e-6)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))
