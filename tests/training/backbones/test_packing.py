from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath
from torch import Tensor

from tests.training.backbones.families import FAMILIES, TRANSFORMERS, Family, lively, pictures
from training.backbones import packing
from training.backbones.interface import Backbone, Tokens
from training.blocks import recompute_activations

TINY = Family("vit_tiny_patch16_224", {"patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2, "reg_tokens": 2})


def score(tokens: list[Tokens]) -> Tensor:
    parts = [
        t.pooled.cos().sum() + t.patches.sin().sum() + sum(h.square().mean() for h in t.hidden.values())
        for t in tokens
    ]
    return torch.stack([torch.as_tensor(part) for part in parts]).sum()


def gradients(backbone: Backbone, tokens: list[Tokens]) -> dict[str, Tensor]:
    backbone.zero_grad()
    score(tokens).backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


def assert_same(ours: list[Tokens], theirs: list[Tokens]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.pooled, other.pooled)
        assert torch.allclose(mine.patches, other.patches)
        assert mine.grid == other.grid
        for name in ("cls", "registers"):
            first, second = getattr(mine, name), getattr(other, name)
            assert (first is None) == (second is None)
            assert first is None or torch.allclose(first, second)
        assert all(torch.allclose(mine.hidden[layer], other.hidden[layer]) for layer in other.hidden)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_crops_equal_crops_by_size(family: str) -> None:
    of = FAMILIES[family]
    backbone: Any = lively(of.build(torch.float64)).eval()
    other = {"open_clip resnet": of.size}.get(family, of.size // 2 if family in TRANSFORMERS else 2 * of.size)
    groups = [pictures(3, of.size, torch.float64), pictures(5, other, torch.float64, seed=1)]
    packed = backbone.tokens_of(groups, layers=[-1])
    plain = [backbone.tokens(images, layers=[-1]) for images in groups]
    assert_same(packed, plain)
    ours, theirs = gradients(backbone, packed), gradients(backbone, plain)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name]) for name in ours)
    assert family not in TRANSFORMERS or backbone.packable


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_each_size_may_drop_and_mask_its_own(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = lively(of.build(torch.float64)).eval()
    N = of.grid[0] * of.grid[1]
    groups = [pictures(2, of.size, torch.float64), pictures(3, of.size // 2, torch.float64, seed=1)]
    keep = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(s))[: N // 3] for s in (0, 1)])
    mask = torch.rand(3, N // 4, generator=torch.Generator().manual_seed(2)) < 0.5
    token = torch.full((backbone.token_dim,), 0.1, dtype=torch.float64)
    packed = backbone.tokens_of(groups, keep=[keep, None], mask=[None, mask], mask_token=token)
    plain = [backbone.tokens(groups[0], keep=keep), backbone.tokens(groups[1], mask=mask, mask_token=token)]
    assert_same(packed, plain)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([8, 16, 24, 32])), min_size=1, max_size=4))
def test_any_mixture_of_sizes(sizes: list[tuple[int, int]]) -> None:
    backbone = TINY.build(torch.float64).eval()
    groups = [pictures(count, side, torch.float64, seed=number) for number, (count, side) in enumerate(sizes)]
    with torch.no_grad():
        assert_same(backbone.tokens_of(groups), [backbone.tokens(images) for images in groups])


def test_blocks_run_once_for_all_sizes() -> None:
    backbone: Any = TINY.build().eval()
    seen: list[torch.Size] = []
    backbone.blocks[0].mlp.register_forward_hook(lambda module, given, out: seen.append(given[0].shape))
    with torch.no_grad():
        backbone.tokens_of([pictures(2, 32), pictures(3, 16)])
    assert seen == [(1, 2 * (3 + 16) + 3 * (3 + 4), 32)]


def test_stochastic_depth_drops_whole_crops() -> None:
    of = Family(TINY.name, {**TINY.options, "drop_path_rate": 0.5})
    backbone: Any = of.build(torch.float64).train()
    assert isinstance(backbone.blocks[1].drop_path1, DropPath)
    kept: list[Tensor] = []
    with torch.no_grad():
        torch.manual_seed(0)
        for _ in range(40):
            ones = torch.ones(1, 2 * 19 + 3 * 7, 1, dtype=torch.float64)
            packed = packing.Packing(((2, 19), (3, 7)))
            factors = packing._drop_crops(backbone.blocks[1].drop_path1, ones, packed)
            by_crop = [part.squeeze(-1) for part in packed.split(factors)]
            assert all((part == part[:, :1]).all() for part in by_crop)
            kept.append(torch.cat([part[:, 0] for part in by_crop]))
    values = torch.stack(kept)
    assert set(values.unique().tolist()) == {0.0, 2.0}
    assert 0.8 < values.mean().item() < 1.2
    tokens = backbone.tokens_of([pictures(2, 32, torch.float64), pictures(3, 16, torch.float64)])
    assert all(torch.isfinite(t.pooled).all() for t in tokens)


def test_a_copy_packs_with_its_own_weights() -> None:
    backbone = TINY.build(torch.float64).eval()
    teacher = copy.deepcopy(backbone)
    groups = [pictures(2, 32, torch.float64), pictures(3, 16, torch.float64)]
    with torch.no_grad():
        before = teacher.tokens_of(groups)[0].pooled
        for parameter in backbone.parameters():
            parameter.add_(0.1)
        assert torch.equal(teacher.tokens_of(groups)[0].pooled, before)
        assert not torch.allclose(backbone.tokens_of(groups)[0].pooled, before)


@pytest.mark.parametrize("how", ["recompute", "timm"])
def test_activations_can_be_recomputed(how: str) -> None:
    backbone: Any = TINY.build(torch.float64).train()
    groups = [pictures(2, 32, torch.float64), pictures(3, 16, torch.float64)]
    expected = gradients(backbone, backbone.tokens_of(groups))
    if how == "recompute":
        recompute_activations(backbone)
    else:
        backbone.model.set_grad_checkpointing(True)
    ours = gradients(backbone, backbone.tokens_of(groups))
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
