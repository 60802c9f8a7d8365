from __future__ import annotations

import subprocess
import sys

import open_clip
import pytest
import timm

from training.backbones.names import check_name, family, is_vit, open_clip_names, patch_size, timm_model_names


def test_names_are_those_of_the_libraries() -> None:
    assert set(timm.list_models()) <= set(timm_model_names())
    assert [f"open_clip:{name}" for name in sorted(open_clip.list_models())] == open_clip_names()


def test_names_are_known_without_importing_anything_heavy() -> None:
    code = (
        "import sys; from training.backbones.names import check_name, is_vit;"
        "check_name('vit_small_patch16_224'); assert is_vit('open_clip:ViT-B-32');"
        "assert not {'torch', 'timm', 'open_clip', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("resnet_18", "resnet18"), ("open_clip:ViT-B32", "open_clip:ViT-B-32"), ("zzzz", "list_models")],
)
def test_wrong_names_get_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=near):
        check_name(wrong)


def test_transformers_are_told_from_feature_maps() -> None:
    vits = ["vit_small_patch16_224", "deit3_small_patch16_224", "vit_small_patch16_dinov3", "eva02_tiny_patch14_224"]
    towers = ["open_clip:ViT-B-32", "open_clip:ViT-B-16-SigLIP"]
    assert all(is_vit(name) for name in vits + towers)
    others = ["resnet18", "swin_tiny_patch4_window7_224", "open_clip:RN50", "open_clip:convnext_base"]
    assert not any(is_vit(name) for name in others)
    assert family("vit_small_patch16_dinov3") == "eva"


def test_patch_sizes_are_read_from_names_and_configs() -> None:
    assert patch_size("vit_small_patch14_dinov2") == 14
    assert patch_size("open_clip:ViT-B-32") == 32
    assert patch_size("open_clip:ViT-B-16-SigLIP") == 16
    assert patch_size("resnet18") == 1
