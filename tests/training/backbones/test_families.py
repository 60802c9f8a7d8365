from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from tests.training.backbones.families import FAMILIES, MAPS, TRANSFORMERS, lively, pictures
from training.backbones.building import backbone_config, build_backbone
from training.backbones.interface import Tokens
from training.backbones.open_clip_tower import build_text_tower, build_vision_tower
from training.backbones.weights import load_weights, save_weights


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_library(family: str) -> None:
    of = FAMILIES[family]
    backbone = of.build().eval()
    images = pictures(2, of.size)
    with torch.no_grad():
        tokens = backbone(images)
        assert torch.allclose(tokens.pooled, backbone.model(images), atol=1e-6)
    assert tokens.pooled.shape == (2, backbone.dim)
    assert tokens.grid == of.grid
    assert tokens.patches.shape == (2, of.grid[0] * of.grid[1], backbone.token_dim)
    assert (tokens.cls is not None) == of.has_cls
    assert tokens.prefix == of.prefix
    if hasattr(backbone.model, "forward_features") and family in TRANSFORMERS:
        with torch.no_grad():
            features = backbone.model.forward_features(images)
        assert torch.allclose(tokens.patches, features[:, of.prefix :], atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_parameter(family: str) -> None:
    of = FAMILIES[family]
    backbone = of.build().train()
    tokens = backbone(pictures(2, of.size))
    (tokens.pooled.square().sum() + tokens.patches.sin().sum()).backward()
    without = {name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None}
    assert without == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_weights_load_in_the_library_alone(family: str, tmp_path: Path) -> None:
    of = FAMILIES[family]
    backbone = of.build().eval()
    save_weights(backbone, tmp_path / "backbone.safetensors")
    config = backbone_config(of.name, of.options, of.size)
    alone: Any
    if of.name.startswith("open_clip:"):
        alone = build_vision_tower(config["name"].removeprefix("open_clip:"), config["kwargs"])
    else:
        alone = timm.create_model(config["name"], num_classes=0, **config["kwargs"])
    alone.load_state_dict(load_file(tmp_path / "backbone.safetensors"))
    images = pictures(2, of.size)
    other = of.build(seed=1).eval()
    load_weights(other, tmp_path / "backbone.safetensors")
    with torch.no_grad():
        expected = backbone(images).pooled
        assert torch.allclose(alone.eval()(images), expected, atol=1e-6)
        assert torch.equal(other(images).pooled, expected)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_what_is_dropped_has_no_influence_and_order_is_free(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = of.build(torch.float64).eval()
    images, N = pictures(2, of.size, torch.float64), of.grid[0] * of.grid[1]
    orders = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(s)) for s in (0, 1)])
    with torch.no_grad():
        whole, shuffled = backbone(images), backbone.tokens(images, keep=orders)
        assert torch.allclose(shuffled.pooled, whole.pooled)
        places = orders.unsqueeze(-1).expand(-1, -1, backbone.token_dim)
        assert torch.allclose(shuffled.patches, whole.patches.gather(1, places))
        changed = images.clone()
        changed[:, :, : backbone.patch, : backbone.patch] = 9.0
        keep = torch.arange(1, N).expand(2, -1)
        first, second = (backbone.tokens(x, keep=keep) for x in (images, changed))
        assert torch.equal(first.pooled, second.pooled)
        assert first.patches.shape[1] == N - 1
        assert first.grid == of.grid
        assert not torch.allclose(backbone(changed).pooled, whole.pooled)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_where_tokens_do_not_mix_a_subset_gives_the_subset(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone: Any = of.build(torch.float64).eval()
    for name, parameter in backbone.model.named_parameters():
        if ".attn.proj." in name or ".attn.out_proj." in name:
            torch.nn.init.zeros_(parameter)  # attention adds nothing: every token goes its own way
    images = pictures(2, of.size, torch.float64)
    keep = torch.tensor([[3, 0, 7], [1, 2, 15]])
    with torch.no_grad():
        some, whole = backbone.tokens(images, keep=keep), backbone(images)
    assert torch.allclose(some.patches, whole.patches.gather(1, keep.unsqueeze(-1).expand(-1, -1, backbone.token_dim)))


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_a_mask_token_hides_a_patch(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = of.build().eval()
    images = pictures(2, of.size)
    mask = torch.zeros(2, of.grid[0] * of.grid[1], dtype=torch.bool)
    mask[:, 0] = True
    changed = images.clone()
    changed[:, :, : backbone.patch, : backbone.patch] = 9.0
    token = torch.zeros(backbone.token_dim)
    with torch.no_grad():
        first, second = (backbone.tokens(x, mask=mask, mask_token=token).pooled for x in (images, changed))
    assert torch.equal(first, second)
    for wrong in ({"mask": mask}, {"mask_token": token}):
        with pytest.raises(ValueError, match="a mask needs the token"):
            backbone.tokens(images, **wrong)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_patches_without_positions_are_a_set(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = lively(of.build(torch.float64)).eval()
    images, p = pictures(2, of.size, torch.float64), backbone.patch
    swapped = images.clone()
    swapped[..., :p, :p], swapped[..., :p, p : 2 * p] = images[..., :p, p : 2 * p], images[..., :p, :p]
    nowhere = torch.ones(2, of.grid[0] * of.grid[1], dtype=torch.bool)
    with torch.no_grad():
        placed = [backbone(x).pooled for x in (images, swapped)]
        unplaced = [backbone.tokens(x, drop_positions=nowhere).pooled for x in (images, swapped)]
    assert not torch.allclose(*placed)
    assert torch.allclose(*unplaced)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_noise_is_added_to_positions(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = of.build(torch.float64).eval()
    images, N = pictures(2, of.size, torch.float64), of.grid[0] * of.grid[1]
    noise = torch.randn(2, N, backbone.token_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    if not of.absolute:
        with pytest.raises(ValueError, match="no learned positions"):
            backbone.tokens(images, position_noise=noise)
        return
    seen: list[torch.Tensor] = []
    backbone.enter = lambda embedded: seen.append(embedded.x) or embedded  # type: ignore[method-assign,func-returns-value]
    with torch.no_grad():
        backbone(images)
        backbone.tokens(images, position_noise=noise)
        backbone.tokens(images, position_noise=noise, drop_positions=torch.ones(2, N, dtype=torch.bool))
        backbone.tokens(images, drop_positions=torch.ones(2, N, dtype=torch.bool))
    plain, noisy, replaced, dropped = (x[:, of.prefix :] for x in seen)
    assert torch.allclose(noisy - plain, noise)
    assert torch.allclose(replaced - dropped, noise)
    assert not torch.allclose(dropped, plain)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_dropping_saves_the_work(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = of.build().eval()
    N = of.grid[0] * of.grid[1]
    counts = []
    for keep in (None, torch.arange(N // 4).expand(2, -1)):
        with FlopCounterMode(display=False) as counter:
            tokens = backbone.tokens(pictures(2, of.size), keep=keep)
        counts.append((counter.get_total_flops(), of.prefix + tokens.patches.shape[1]))
    (all_flops, all_tokens), (some_flops, some_tokens) = counts
    assert some_flops / all_flops < some_tokens / all_tokens + 0.12  # the patch embedding sees all patches


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_hidden_states_are_those_of_the_blocks(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone: Any = of.build().eval()
    outputs: list[torch.Tensor] = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda module, given, out: outputs.append(out))
    with torch.no_grad():
        tokens = backbone.tokens(pictures(2, of.size), layers=[0, -1])
    assert torch.equal(tokens.hidden[0], outputs[0])
    assert torch.equal(tokens.hidden[-1], outputs[-1])
    assert tokens.hidden[0].shape[1] == tokens.prefix + of.grid[0] * of.grid[1]
    with pytest.raises(ValueError, match=r"blocks 0 to \d+, not 99"):
        backbone.tokens(pictures(2, of.size), layers=[99])


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_other_image_sizes_are_taken(family: str) -> None:
    of = TRANSFORMERS[family]
    backbone = of.build().eval()
    with torch.no_grad():
        tokens = backbone(pictures(2, of.size // 2))
    assert tokens.grid == (of.grid[0] // 2, of.grid[1] // 2)
    assert torch.isfinite(tokens.pooled).all()


@pytest.mark.parametrize("family", MAPS)
def test_feature_maps_are_computed_whole(family: str) -> None:
    of = MAPS[family]
    backbone = of.build().eval()
    images = pictures(2, of.size)
    with torch.no_grad():
        tokens = backbone.tokens(images, layers=[0, -1])
        assert torch.allclose(tokens.pooled, backbone(images).pooled, atol=1e-6)
    assert tokens.hidden[0].shape[1] > tokens.hidden[-1].shape[1]
    assert tokens.hidden[-1].shape[:3] == (2, *of.grid)
    for asked in ("keep", "mask", "drop_positions", "position_noise"):
        with pytest.raises(ValueError, match="no patch tokens to drop"):
            backbone.tokens(images, **{asked: torch.zeros(2, 1, dtype=torch.long)})


@pytest.mark.parametrize(("name", "trunk"), [("convnext_base", "test_convnext"), ("ViT-B-16-SigLIP", "test_vit3")])
def test_towers_of_timm_pool_and_project_as_open_clip_does(name: str, trunk: str) -> None:
    config = backbone_config(f"open_clip:{name}", {"timm_model_name": trunk}, 32)
    tower = build_backbone({"backbone": config, "seed": 0}).eval()
    images = pictures(1, 32)
    with torch.no_grad():
        tokens = tower(images)
        assert torch.allclose(tokens.pooled, tower.model(images), atol=1e-5)
    assert tokens.pooled.shape == (1, tower.dim)
    assert all(name.startswith("model.") for name in tower.state_dict())
    assert torch.equal(copy.deepcopy(tower)(images).pooled, tokens.pooled)


def test_text_tower_speaks_in_the_dimension_of_the_vision_tower() -> None:
    text = build_text_tower("ViT-S-32-alt").eval()
    ids = open_clip.get_tokenizer("ViT-S-32-alt")(["a cat", "a dog"])
    with torch.no_grad():
        assert text(ids).shape == (2, 256)
    with pytest.raises(ValueError, match="Hugging Face hub"):
        build_text_tower("nllb-clip-base")


def test_the_seed_gives_the_weights() -> None:
    of = FAMILIES["registers"]
    states = [of.build(seed=seed).state_dict() for seed in (0, 0, 1)]
    name = "model.blocks.0.attn.qkv.weight"
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0][name], states[2][name])


def test_registers_are_nowhere_among_the_patches() -> None:
    of = FAMILIES["registers"]
    backbone: Any = of.build().eval()
    tokens: Tokens = backbone(pictures(2, of.size))
    assert tokens.registers is not None
    assert tokens.registers.shape == (2, 4, backbone.token_dim)
    tokens.patches.sum().backward()
    before = backbone.model.reg_token.grad.clone()
    assert before.abs().sum() > 0  # patches attend to registers
    assert tokens.patches.shape[1] == 16


def test_a_pixel_as_a_patch_needs_no_convolution() -> None:
    of = FAMILIES["pixels"]
    backbone = of.build().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(pictures(2, of.size))
    assert not any("conv" in str(operation) for operation in counter.get_flop_counts()["Global"])


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="no_such_argument"):
        build_backbone({"backbone": {"name": "test_vit", "kwargs": {"no_such_argument": 1}}, "seed": 0})
    with pytest.raises(ValueError, match="no_such_argument"):
        build_backbone({"backbone": {"name": "open_clip:ViT-B-32", "kwargs": {"no_such_argument": 1}}, "seed": 0})
    with pytest.raises(ValueError, match="does not take images of 40 x 32 px"):
        build_backbone({"backbone": {"name": "swin_tiny_patch4_window7_224", "kwargs": {"img_size": 32}}, "seed": 0})(
            torch.zeros(1, 3, 40, 32)
        )
    with pytest.raises(ValueError, match=r"8 x 8 px do not tile an image of 30 x 30 px"):
        FAMILIES["class token"].build()(pictures(1, 30))


def test_configs_carry_what_the_library_needs() -> None:
    assert backbone_config("vit_tiny_patch16_224", {"patch_size": 4}, 32)["kwargs"] == {
        "img_size": 32,
        "patch_size": 4,
    }
    assert backbone_config("resnet18", {}, 32) == {"name": "resnet18", "kwargs": {}}
    assert backbone_config("vit_small_patch16_dinov3", {"reg_tokens": 1}, 32)["kwargs"]["num_reg_tokens"] == 1
    assert backbone_config("open_clip:ViT-B-32", {}, 64)["kwargs"] == {"image_size": 64}
