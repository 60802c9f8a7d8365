from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from training.backbones.names import check_name, is_vit, timm_model_names
from training.backbones.timm_backbone import (
    TimmBackbone,
    build_backbone,
    load_weights,
    save_weights,
    timm_arguments,
)

VIT = {"backbone": {"name": "test_vit", "kwargs": {"img_size": 32, "patch_size": 4}}, "seed": 0}


@pytest.fixture(scope="module")
def vit() -> TimmBackbone:
    return build_backbone(VIT).eval()


def images(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "kwargs", "grid"),
    [
        ("test_vit", {"img_size": 32, "patch_size": 4}, (8, 8)),
        ("test_vit2", {"img_size": 32, "patch_size": 8}, (4, 4)),
        ("resnet18", {}, (1, 1)),
        ("test_convnext", {}, (1, 1)),
        ("test_efficientnet", {}, (1, 1)),
    ],
)
def test_pooled_is_what_timm_gives(name: str, kwargs: dict[str, int], grid: tuple[int, int]) -> None:
    backbone = build_backbone({"backbone": {"name": name, "kwargs": kwargs}, "seed": 0}).eval()
    with torch.no_grad():
        tokens = backbone(images())
        expected = backbone.model(images())
    assert torch.allclose(tokens.pooled, expected, atol=1e-5)
    assert tokens.pooled.shape == (2, backbone.dim)
    assert tokens.patches.shape == (2, grid[0] * grid[1], backbone.token_dim)
    assert tokens.grid == grid


def test_prefix_tokens_are_told_apart() -> None:
    plain = build_backbone(VIT).eval()(images())
    assert plain.cls is not None
    assert plain.registers is None
    kwargs = {"img_size": 32, "patch_size": 8}
    registered = build_backbone({"backbone": {"name": "test_vit2", "kwargs": kwargs}, "seed": 0}).eval()(images())
    assert registered.cls is None
    assert registered.registers is not None
    assert registered.registers.shape[1] == 1


def test_dropped_tokens_are_not_processed(vit: TimmBackbone) -> None:
    seen = []
    handle = vit.model.blocks[0].register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    keep = torch.arange(16).expand(2, 16)
    with torch.no_grad():
        tokens = vit.tokens(images(), keep=keep)
    handle.remove()
    assert seen == [17]
    assert tokens.patches.shape[1] == 16
    assert tokens.grid == (8, 8)


def test_keeping_all_in_any_order_changes_nothing(vit: TimmBackbone) -> None:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        full = vit.tokens(images())
        shuffled = vit.tokens(images(), keep=order.expand(2, 64))
    assert torch.allclose(full.pooled, shuffled.pooled, atol=1e-5)
    assert torch.allclose(full.patches[:, order], shuffled.patches, atol=1e-5)


def test_a_dropped_patch_has_no_influence(vit: TimmBackbone) -> None:
    changed = images()
    changed[:, :, :4, :4] = 9.0
    keep = torch.arange(1, 64).expand(2, 63)
    with torch.no_grad():
        assert torch.equal(vit.tokens(images(), keep=keep).pooled, vit.tokens(changed, keep=keep).pooled)
        assert not torch.allclose(vit.tokens(images()).pooled, vit.tokens(changed).pooled)


def test_a_mask_token_hides_a_patch(vit: TimmBackbone) -> None:
    mask = torch.zeros(2, 64, dtype=torch.bool)
    mask[:, 0] = True
    token = torch.zeros(vit.token_dim)
    changed = images()
    changed[:, :, :4, :4] = 9.0
    with torch.no_grad():
        first, second = (vit.tokens(x, mask=mask, mask_token=token).pooled for x in (images(), changed))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="token that stands in"):
        vit.tokens(images(), mask=mask)


def test_convnets_refuse_to_drop() -> None:
    backbone = build_backbone({"backbone": {"name": "resnet18", "kwargs": {}}, "seed": 0})
    with pytest.raises(ValueError, match="vit_"):
        backbone.tokens(images(), keep=torch.zeros(2, 1, dtype=torch.long))


def test_the_seed_gives_the_weights() -> None:
    states = [build_backbone({**VIT, "seed": seed}).state_dict() for seed in (0, 0, 1)]
    name = "model.blocks.0.attn.qkv.weight"
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0][name], states[2][name])


def test_exported_weights_load_in_timm_alone(vit: TimmBackbone, tmp_path: Path) -> None:
    save_weights(vit, tmp_path / "backbone.safetensors")
    plain = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=32, patch_size=4).eval()
    plain.load_state_dict(load_file(tmp_path / "backbone.safetensors"))
    with torch.no_grad():
        assert torch.equal(plain(images()), vit(images()).pooled)


def test_unfitting_weights_are_refused(vit: TimmBackbone, tmp_path: Path) -> None:
    state = dict(vit.model.state_dict())
    state.pop("norm.weight")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"norm\.weight"):
        load_weights(vit, tmp_path / "w.safetensors")


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="no_such_argument"):
        build_backbone({"backbone": {"name": "test_vit", "kwargs": {"no_such_argument": 1}}, "seed": 0})


def test_names_are_those_of_timm() -> None:
    ours, theirs = set(timm_model_names()), set(timm.list_models())
    assert theirs <= ours
    assert is_vit("vit_small_patch16_224")
    assert not is_vit("resnet18")
    with pytest.raises(ValueError, match="resnet18"):
        check_name("resnet_18")


def test_vits_get_the_image_size() -> None:
    assert timm_arguments("vit_tiny_patch16_224", {"patch_size": 4}, 32) == {"img_size": 32, "patch_size": 4}
    assert timm_arguments("resnet18", {}, 32) == {}
