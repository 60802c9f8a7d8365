from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.optimisers import clip_gradients, clipped_parts


def _module() -> nn.Module:
    module = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), "head": nn.Linear(2, 3)})
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, dtype=torch.float32)
    return module


def _norm(module: nn.Module) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in module.parameters()))  # type: ignore[union-attr]


def test_the_whole_is_limited_as_torch_does_it() -> None:
    ours, theirs = _module(), _module()
    found = clip_gradients(clipped_parts(ours), 0.5)
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    assert found.keys() == {"total"}
    assert torch.equal(found["total"], expected)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))  # type: ignore[arg-type]


def test_parts_are_limited_by_themselves() -> None:
    module = _module()
    backbone, head = _norm(module["backbone"]), _norm(module["head"])
    limit = (backbone + head) / 2
    assert head < limit < backbone
    found = clip_gradients(clipped_parts(module, by_part=True), limit)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"backbone": backbone, "head": head, "total": math.hypot(backbone, head)}
    )
    assert _norm(module["backbone"]) == pytest.approx(limit, rel=1e-5)
    assert _norm(module["head"]) == pytest.approx(head)


def test_no_limit_measures_only() -> None:
    module, before = _module(), _norm(_module())
    assert float(clip_gradients(clipped_parts(module), 0.0)["total"]) == pytest.approx(before)
    assert _norm(module) == before


def test_what_is_not_finite_shows() -> None:
    module = _module()
    module["head"].weight.grad[0, 0] = torch.inf
    assert not math.isfinite(float(clip_gradients(clipped_parts(module), 1.0)["total"]))
    assert clip_gradients(clipped_parts(nn.Linear(2, 2)), 1.0) == {"total": torch.zeros(())}
