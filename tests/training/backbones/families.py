"""One small model of each family, and what the tests may expect of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from training.backbones.building import backbone_config, build_backbone
from training.backbones.interface import Backbone


@dataclass(frozen=True)
class Family:
    """A backbone by name and options, with the side of its images and what its output is made of."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    size: int = 32
    grid: tuple[int, int] = (4, 4)
    prefix: int = 0
    has_cls: bool = False
    absolute: bool = True

    def build(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> Backbone:
        backbone = build_backbone({"backbone": backbone_config(self.name, self.options, self.size), "seed": seed})
        return backbone.to(dtype)


_EIGHT = {"patch_size": 8}
_SHORT = {**_EIGHT, "depth": 2, "embed_dim": 96, "num_heads": 2}

TRANSFORMERS = {
    "class token": Family("test_vit", _EIGHT, prefix=1, has_cls=True),
    "average, register": Family("test_vit2", _EIGHT, prefix=1),
    "attention pooling": Family("test_vit3", _EIGHT, prefix=1),
    "registers": Family(
        "vit_tiny_patch16_224",
        {**_SHORT, "reg_tokens": 4, "init_values": 0.1, "qk_norm": True},
        prefix=5,
        has_cls=True,
    ),
    "distilled": Family("deit_tiny_distilled_patch16_224", _SHORT, prefix=2, has_cls=True),
    "clip norms": Family("vit_base_patch32_clip_224", _SHORT, prefix=1, has_cls=True),
    "pixels": Family("vit_tiny_patch16_224", {**_SHORT, "patch_size": 1}, size=6, grid=(6, 6), prefix=1, has_cls=True),
    "dinov3": Family("vit_small_patch16_dinov3", {**_SHORT, "reg_tokens": 2}, prefix=3, has_cls=True, absolute=False),
    "eva02": Family("eva02_tiny_patch14_224", _SHORT, prefix=1, has_cls=True),
    "mixed rotations": Family("vit_small_patch16_rope_mixed_224", _SHORT, prefix=1, has_cls=True, absolute=False),
    "open_clip": Family("open_clip:ViT-B-32", {**_EIGHT, "layers": 2, "width": 128}, prefix=1, has_cls=True),
}
MAPS = {
    "resnet": Family("resnet18", {"channels": [16, 16, 32, 32]}, grid=(1, 1)),
    "convnext": Family("test_convnext", grid=(1, 1)),
    "efficientnet": Family("test_efficientnet", grid=(1, 1)),
    "swin": Family(
        "swin_tiny_patch4_window7_224",
        {
            "embed_dim": 24,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "strict_img_size": False,
        },
        size=64,
        grid=(2, 2),
    ),
    "open_clip resnet": Family("open_clip:RN50", {"layers": [1, 1, 1, 1], "width": 16}, size=64, grid=(2, 2)),
}
FAMILIES = {**TRANSFORMERS, **MAPS}


def lively(backbone: Backbone) -> Backbone:
    """The backbone with attention and layer scales that matter, where fresh weights make them whisper."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "gamma" in name:
                parameter.fill_(0.5)
            elif "qkv" in name or "in_proj" in name:
                parameter.mul_(8)
    return backbone


def pictures(
    count: int, side: int, dtype: torch.dtype = torch.float32, channels: int = 3, seed: int = 0
) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed)).to(dtype)
