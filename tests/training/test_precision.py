from __future__ import annotations

import torch
from torch import nn

from training.precision import Precision

CPU = torch.device("cpu")


def test_the_loss_scale_follows_overflows_and_survives_a_resume() -> None:
    precision = Precision("fp16", CPU, patience=3)
    begun = precision.scale
    precision.settle(finite=False)
    assert precision.scale == begun / 2
    for _ in range(2):
        precision.settle(finite=True)
    resumed = Precision("fp16", CPU, patience=3)
    resumed.load_state_dict(precision.state_dict())
    resumed.settle(finite=True)
    assert resumed.scale == begun
    assert precision.absorbs(loss=1.0)
    assert not precision.absorbs(loss=float("nan"))
    for _ in range(40):
        precision.settle(finite=False)
    assert not precision.absorbs(loss=1.0)


def test_the_scale_leaves_gradients_as_they_are() -> None:
    layer = nn.Linear(3, 1)
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    layer(inputs).sum().backward()
    assert layer.weight.grad is not None
    expected = layer.weight.grad.clone()
    layer.zero_grad()
    precision = Precision("fp16", CPU)
    precision.scale_up(layer(inputs).sum()).backward()
    assert not torch.allclose(layer.weight.grad, expected)
    precision.scale_down(layer)
    assert torch.equal(layer.weight.grad, expected)


def test_other_formats_have_no_scale() -> None:
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        precision = Precision(kind, CPU)
        precision.settle(finite=False)
        assert precision.scale == 1.0
        assert not precision.absorbs(loss=1.0)
        with precision.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
