from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from training.blocks import compile_blocks, recompute_activations, repeated_blocks


def test_blocks_are_found_in_any_model() -> None:
    counts = {"test_vit": 6, "resnet18": 8, "test_convnext": 9}
    for name, count in counts.items():
        model = timm.create_model(name, num_classes=0)
        blocks = repeated_blocks(model)
        assert len(blocks) == count, name
        held = sum(p.numel() for block in blocks for p in block.parameters())
        assert held > 0.5 * sum(p.numel() for p in model.parameters())
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    inputs = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    model(inputs).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_recomputing_gives_the_same_gradients_and_statistics() -> None:
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("resnet18", channels=[8, 8, 8, 8], num_classes=0, drop_path_rate=0.3).train()
        names = list(model.state_dict())
        if recompute:
            recompute_activations(model)
        found.append((_gradients(model), model.state_dict()))
        assert list(model.state_dict()) == names
    for first, second in zip(*found, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_compiled_blocks_keep_names_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: eager(self, backend="aot_eager"))
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("test_vit", num_classes=0, img_size=32).train()
        names = list(model.state_dict())
        if compiled:
            recompute_activations(model)
            compile_blocks(model)
        found.append(_gradients(model))
        assert list(model.state_dict()) == names
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-4, rtol=1e-4) for name in found[0])
