"""A small vision transformer and a few pictures for it."""

from __future__ import annotations

import numpy as np

from training.backbones.building import build_backbone
from training.backbones.interface import Backbone
from training.decoding import Canvas
from training.evaluation.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", (255, 255, 255))
KWARGS = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "img_size": 32}


def small_vit(name: str = "vit_tiny_patch16_224", **kwargs: object) -> Backbone:
    """An untrained backbone, the same at every call."""
    config = {"backbone": {"name": name, "kwargs": kwargs or KWARGS}, "image_size": 32, "seed": 4}
    return build_backbone(config).eval()


def canvases(count: int, side: int = 64) -> list[Canvas]:
    """Smooth random pictures."""
    generator = np.random.default_rng(7)
    coarse = generator.integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    return [Canvas(picture.repeat(side // 8, axis=1).repeat(side // 8, axis=2), 1.0) for picture in coarse]
