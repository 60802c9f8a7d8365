"""What vision transformers start from: the papers' numbers, the same wherever a config is built."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.pretrain import PretrainParams
from tests.training.backbones.families import MAPS, TRANSFORMERS, Family, pictures
from tests.training.objectives.small_models import SMALL_VIT, small_plan
from training.assembly import assembled_objective
from training.backbones.building import backbone_config, build_backbone
from training.backbones.first_weights import LIBRARY, FirstWeights
from training.backbones.interface import Backbone
from training.export import export
from training.objectives import catalogue

PAPERS = [name for name in typing.get_args(FirstWeights) if name != LIBRARY]
WIDE = Family("vit_tiny_patch16_224", {"patch_size": 8, "depth": 2, "embed_dim": 96, "num_heads": 2})


def built(of: Family, first: str, seed: int = 0) -> Any:
    config = backbone_config(of.name, of.options, of.size, first)
    return build_backbone({"backbone": config, "seed": seed})


def state(backbone: Backbone) -> dict[str, Tensor]:
    return dict(backbone.state_dict())


@pytest.mark.parametrize("first", PAPERS)
def test_positions_are_the_formula(first: str) -> None:
    table = built(Family(WIDE.name, {**WIDE.options, "img_size": (16, 32)}), first).model.pos_embed[0]
    quarter = 96 // 4
    expected = torch.zeros(1 + 2 * 4, 96)  # the class token has no place
    for row in range(2):
        for column in range(4):
            for k in range(quarter):
                frequency = 10000 ** (-k / quarter)
                parts = [f(place * frequency) for place in (row, column) for f in (math.sin, math.cos)]
                expected[1 + 4 * row + column, k::quarter] = torch.tensor(parts)
    torch.testing.assert_close(table.detach(), expected)


@pytest.mark.parametrize("first", ["mae", "moco_v3"])
def test_matrices_are_xavier_uniform(first: str) -> None:
    model = built(WIDE, first).model
    named = {name: m for name, m in model.blocks.named_modules() if isinstance(m, nn.Linear)}
    matrices = {name: (m.weight, 1) for name, m in named.items()}
    for name in matrices:
        if first == "moco_v3" and name.endswith("qkv"):
            matrices[name] = (named[name].weight, 3)
    for weight, parts in [*matrices.values(), (model.patch_embed.proj.weight.flatten(1), 1)]:
        bound = math.sqrt(6 / (len(weight) // parts + weight.shape[1]))
        assert 0.99 * bound < float(weight.detach().abs().max()) <= bound
        assert float(weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert len(named) == 8
    assert not any(m.bias.any() for m in named.values())


def test_ijepas_branches_shrink_with_depth() -> None:
    model = built(WIDE, "ijepa").model
    for depth, block in enumerate(model.blocks, 1):
        for linear, share in ((block.attn.qkv, 1), (block.attn.proj, 2 * depth), (block.mlp.fc2, 2 * depth)):
            assert float(linear.weight.detach().std()) == pytest.approx(0.02 / math.sqrt(share), rel=0.03)


@pytest.mark.parametrize("family", [*TRANSFORMERS, "a tower's trunk"])
@pytest.mark.parametrize("first", PAPERS)
def test_every_transformer_takes_what_it_has_a_place_for(family: str, first: str) -> None:
    tower = Family("open_clip:ViT-B-32", {"timm_model_name": "test_vit"})
    of = TRANSFORMERS.get(family, tower)
    before, one, two = state(built(of, LIBRARY)), state(built(of, first)), state(built(of, first))
    assert before.keys() == one.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    changed = {name for name in one if not torch.equal(before[name], one[name])}
    assert sum("blocks." in name and name.endswith("weight") for name in changed) >= 8
    assert bool({n for n in changed if n.endswith(("pos_embed", "positional_embedding"))}) == of.absolute
    assert not {name for name in changed if "norm" in name or "gamma" in name or "cls_token" in name}
    other = state(built(of, first, seed=1))
    assert not any(torch.equal(one[n], other[n]) for n in changed if "blocks." in n and n.endswith("weight"))
    with torch.no_grad():
        assert bool(torch.isfinite(built(of, first)(pictures(2, of.size)).pooled).all())


def test_other_backbones_and_other_random_numbers_stay() -> None:
    for of in MAPS.values():
        assert backbone_config(of.name, of.options, of.size, "moco_v3") == backbone_config(
            of.name, of.options, of.size
        )
    convnet = {"name": "resnet18", "kwargs": {"channels": [8, 8, 8, 16]}}
    plain = build_backbone({"backbone": convnet, "seed": 0}).state_dict()
    told = build_backbone({"backbone": {**convnet, "first_weights": "moco_v3"}, "seed": 0}).state_dict()
    assert all(torch.equal(plain[name], told[name]) for name in plain)
    drawn = []
    for first in (LIBRARY, "mae"):
        built(WIDE, first)
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_without_a_wish_configs_are_as_they_were() -> None:
    assert "first_weights" not in backbone_config("vit_tiny_patch16_224", {}, 32)
    with pytest.raises(ValueError, match="'xavier' is none of library, mae, moco_v3, ijepa"):
        build_backbone({"backbone": {**SMALL_VIT, "first_weights": "xavier"}, "seed": 0})


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_called_untrained_is_where_training_starts(name: str, tmp_path: Path) -> None:
    plan = small_plan(name, tmp_path / "shards", tmp_path / "work", seed=3)
    plan = dataclasses.replace(plan, backbone={**plan.backbone, "first_weights": name})
    export(tmp_path / "out", assembled_objective(plan, torch.device("cpu")), plan)
    exported = load_file(tmp_path / "out" / "backbone.safetensors")
    rebuilt = build_backbone(json.loads((tmp_path / "out" / "config.json").read_text())).model
    alone = timm.create_model(plan.backbone["name"], num_classes=0, **plan.backbone["kwargs"])
    alone.load_state_dict(exported)
    for key, value in rebuilt.state_dict().items():
        assert torch.equal(value, exported[key]), key
    assert rebuilt.pos_embed.requires_grad


def test_papers_name_their_own_and_users_may_name_another() -> None:
    assert {name for name in catalogue.names() if catalogue.describe(name)["first_weights"] == name} == set(PAPERS)
    field = PretrainParams.model_fields["first_weights"].annotation
    assert typing.get_args(field) == ("auto", *typing.get_args(FirstWeights))
