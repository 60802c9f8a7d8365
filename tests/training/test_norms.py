from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from training.norms import GlobalBatchNorm, synchronised
from training.process_group import rank, spawn, world

INPUTS = torch.randn(8, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 100


def _normalise(config: dict[str, Any]) -> None:
    norm = synchronised(nn.Sequential(nn.BatchNorm2d(3))).double().train()
    share = INPUTS.chunk(world())[rank()].clone().requires_grad_()
    out = norm(share)
    # A loss that weighs the samples differently, so that gradients cross ranks through the statistics.
    weights = torch.arange(8, dtype=torch.float64).chunk(world())[rank()].view(-1, 1, 1, 1)
    (out * out * out * weights).sum().backward()
    torch.save({"out": out.detach(), "grad": share.grad, "state": norm.state_dict()}, f"{config['out']}-{rank()}.pt")


def test_two_ranks_normalise_as_torch_does_on_one(tmp_path: Path) -> None:
    spawn(_normalise, {"out": str(tmp_path / "rank")}, 2)
    found = [torch.load(tmp_path / f"rank-{r}.pt") for r in (0, 1)]
    norm = nn.BatchNorm2d(3).double().train()
    whole = INPUTS.clone().requires_grad_()
    out = norm(whole)
    (out * out * out * torch.arange(8, dtype=torch.float64).view(-1, 1, 1, 1)).sum().backward()
    assert whole.grad is not None
    assert torch.allclose(torch.cat([part["out"] for part in found]), out, atol=1e-9)
    assert torch.allclose(torch.cat([part["grad"] for part in found]), whole.grad, atol=1e-9)
    for name, value in norm.state_dict().items():
        assert torch.allclose(found[0]["state"][f"0.{name}"].double(), value.double(), atol=1e-9)


def test_conversion_keeps_names_values_and_activations() -> None:
    model = timm.create_model("test_efficientnet", num_classes=0).eval()
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(inputs)
        names = list(model.state_dict())
        synchronised(model)
        assert torch.allclose(model(inputs), before, atol=1e-6)
    assert list(model.state_dict()) == names
    assert any(isinstance(module, GlobalBatchNorm) for module in model.modules())
