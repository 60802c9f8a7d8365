from __future__ import annotations

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.backbones.padding_taps import live_taps, skip_padding_taps


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
    dilation=st.integers(1, 2),
)
def test_results_and_gradients_are_those_of_the_whole_kernel(
    size: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int
) -> None:
    if min(size) + 2 * padding < dilation * (kernel - 1) + 1:
        return
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups=2, dtype=torch.float64)
    cut = copy.deepcopy(plain)
    skip_padding_taps(cut)
    found = []
    for conv in (plain, cut):
        x = torch.randn(2, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = conv(x)
        y.square().sum().backward()
        found.append((y, x.grad, conv.weight.grad, conv.bias.grad))
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ((1, 3, 1, 1, 1), (1, 2, 0)),
        ((2, 3, 2, 1, 1), (1, 3, 0)),
        ((2, 3, 1, 1, 1), (0, 3, 1)),
        ((2, 5, 1, 2, 1), (1, 4, 1)),
        ((2, 7, 2, 3, 1), (3, 5, 0)),
    ],
)
def test_taps_that_reach_into_the_input(axis: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    assert live_taps(*axis) == expected


def test_a_resnet_on_small_crops_computes_what_timm_does() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=0, channels=[8, 16, 16, 24], zero_init_last=False).double()
    copied = copy.deepcopy(model)
    skip_padding_taps(copied)
    assert copied.state_dict().keys() == model.state_dict().keys()
    teacher = copy.deepcopy(copied)  # a copy works on its own weights
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(teacher(images), model(images), atol=1e-12)
