from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from training.optimisers import make_optimiser, parameter_groups, set_rates


class _Objective(nn.Module):
    def __init__(self, model: str = "test_vit") -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.model = timm.create_model(model, num_classes=0)
        self.projector = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 16, bias=False))


def _by_name(groups: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    return {name: group for group in groups for name, _ in group["params"]}  # type: ignore[attr-defined]


def test_matrices_decay_and_nothing_else() -> None:
    vit = timm.create_model("test_vit", num_classes=0, reg_tokens=2, init_values=1e-5)
    decays = {name: group["decay_factor"] == 1.0 for name, group in _by_name(parameter_groups(vit, 0.1)).items()}
    assert decays.keys() == {name for name, _ in vit.named_parameters()}
    spared = {name for name, decayed in decays.items() if not decayed}
    assert {"cls_token", "reg_token", "pos_embed", "norm.weight", "blocks.0.ls1.gamma"} <= spared
    assert {name for name in decays if name.endswith(".bias")} <= spared
    matrices = {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.5.mlp.fc2.weight"}
    assert matrices.isdisjoint(spared)


@pytest.mark.parametrize(
    ("model", "depths"),
    [
        ("test_vit", {"cls_token": 0, "patch_embed.proj.weight": 0, "blocks.0.norm1.weight": 1, "norm.bias": 6}),
        ("resnet18", {"conv1.weight": 0, "layer1.0.conv1.weight": 1, "layer4.1.bn2.bias": 8}),
        ("swin_tiny_patch4_window7_224", {"patch_embed.proj.weight": 0, "layers.3.blocks.1.mlp.fc1.weight": 12}),
        ("efficientnet_b0", {"conv_stem.weight": 0, "blocks.0.0.conv_dw.weight": 1}),
        ("regnety_002", {"stem.conv.weight": 0, "s4.b1.conv3.bn.weight": 7}),
    ],
)
def test_rates_fall_layer_by_layer(model: str, depths: dict[str, int]) -> None:
    module = _Objective(model)
    groups = _by_name(parameter_groups(module, 0.1, layer_decay=0.5))
    top = 1 + max(int(name[6:8]) for name in {str(g["name"]) for g in groups.values()} if name.startswith("layer-"))
    for name, depth in depths.items():
        assert groups[f"backbone.model.{name}"]["lr_factor"] == pytest.approx(0.5 ** (top - depth)), name
    assert groups["projector.0.weight"]["lr_factor"] == groups["projector.1.bias"]["lr_factor"] == 1.0
    assert groups.keys() == {name for name, _ in module.named_parameters()}


def test_names_tell_layers_where_the_library_does_not() -> None:
    module = nn.Module()
    module.backbone = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(3, 8, 4),
            "transformer": nn.ModuleDict({"resblocks": nn.ModuleList(nn.Linear(8, 8) for _ in range(3))}),
            "ln_post": nn.LayerNorm(8),
        }
    )
    groups = _by_name(parameter_groups(module, 0.1, layer_decay=0.5))
    names = ["conv1.weight", "transformer.resblocks.0.weight", "transformer.resblocks.2.bias", "ln_post.weight"]
    assert [groups[f"backbone.{name}"]["lr_factor"] for name in names] == pytest.approx([0.0625, 0.125, 0.5, 0.5])
    with pytest.raises(ValueError, match="numbered layers"):
        parameter_groups(nn.Linear(2, 2), 0.1, layer_decay=0.5)


def test_rates_follow_factors_and_frozen_parts_wait() -> None:
    module = _Objective()
    optimiser = make_optimiser(
        "adamw",
        module,
        lr=1.0,
        weight_decay=0.1,
        layer_decay=0.9,
        patch_embed_lr=0.2,
        frozen={"projector.2": 3},
    )
    groups = {group["name"]: group for group in optimiser.param_groups}
    set_rates(optimiser, 2, lr=0.5, weight_decay=0.3)
    assert groups["layer-00.patch-embed"]["lr"] == pytest.approx(0.5 * 0.9**7 * 0.2)
    assert groups["layer-00.patch-embed"]["weight_decay"] == pytest.approx(0.3)
    assert groups["heads.plain"]["weight_decay"] == 0.0
    assert groups["heads.frozen-3"]["lr"] == 0.0
    set_rates(optimiser, 3, lr=0.5, weight_decay=0.3)
    assert groups["heads.frozen-3"]["lr"] == 0.5


def test_a_frozen_part_does_not_move() -> None:
    module = _Objective()
    optimiser = make_optimiser("adamw", module, lr=0.1, weight_decay=0.5, frozen={"projector.2": 1})
    before = module.projector[2].weight.detach().clone()
    moved = []
    for step in range(2):
        module.projector(torch.randn(8, 64)).square().sum().backward()
        set_rates(optimiser, step, lr=0.1, weight_decay=0.5)
        optimiser.step()
        moved.append(not torch.equal(module.projector[2].weight, before))
    assert moved == [False, True]


def test_groups_are_named_and_in_one_order() -> None:
    first, second = (
        [(g["name"], [name for name, _ in g["params"]]) for g in parameter_groups(_Objective(), 0.1, layer_decay=0.8)]
        for _ in range(2)
    )
    assert first == second
    assert len({name for name, _ in first}) == len(first)


def test_what_does_not_learn_is_left_out() -> None:
    module = _Objective()
    module.teacher = timm.create_model("test_vit", num_classes=0).requires_grad_(False)
    assert not any(name.startswith("teacher") for name in _by_name(parameter_groups(module, 0.1, layer_decay=0.8)))
