"""Frozen features of images by a backbone: its own pooled output, and what its layers hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.backbones.feature_map import FeatureMapBackbone
from training.backbones.interface import Backbone
from training.backbones.transformer import TokenBackbone
from training.evaluation.preprocessing import Preprocessing


def backbone_features(
    backbone: Backbone, pixels: NDArray[np.uint8], preprocessing: Preprocessing, *, batch: int, device: str = "cpu"
) -> NDArray[np.float32]:
    """(N, dim) pooled features of (N, S, S, 3) pixels, in float32 and evaluation mode."""
    backbone = backbone.to(device).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            images = torch.from_numpy(preprocessing.normalise(pixels[start : start + batch])).to(device)
            parts.append(backbone(images).pooled.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, backbone.dim), np.float32)


def layer_numbers(backbone: Backbone, count: int) -> list[int]:
    """Up to `count` blocks (or stages of a feature-map model), evenly spread, the last one among them.

    Empty where the backbone cannot show what is inside it.
    """
    if isinstance(backbone, TokenBackbone):
        depth = len(backbone.blocks)
    elif isinstance(backbone, FeatureMapBackbone) and hasattr(backbone.model, "forward_intermediates"):
        depth = len(backbone.model.feature_info)
    else:
        return []
    count = min(count, depth)
    return [round((n + 1) * depth / count) - 1 for n in range(count)]


def layer_features(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    *,
    layers: Sequence[int],
    batch: int,
    device: str = "cpu",
    patches: bool = False,
) -> dict[str, NDArray[Any]]:
    """ "pooled" (N, dim) of (N, S, S, 3) pixels as `backbone_features`, and of each layer "block_3/class" and
    "block_3/average" (of the patches, or of a feature map's cells), all of one pass.

    Hidden features are float16 (N, D), as are the "patches" (N, P, D) after the last norm, where they are asked for.
    """
    backbone = backbone.to(device).eval()
    parts: dict[str, list[NDArray[Any]]] = {}
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            images = torch.from_numpy(preprocessing.normalise(pixels[start : start + batch])).to(device)
            found = backbone.tokens(images, layers=layers)
            arrays = {"pooled": found.pooled.float()}
            for layer, hidden in found.hidden.items():
                cells = hidden.flatten(1, 2) if hidden.ndim == 4 else hidden[:, found.prefix :]
                arrays[f"block_{layer}/average"] = _half(cells.float().mean(dim=1))
                if found.cls is not None:
                    arrays[f"block_{layer}/class"] = _half(hidden[:, 0])
            if patches:
                arrays["patches"] = _half(found.patches)
            for name, values in arrays.items():
                parts.setdefault(name, []).append(values.cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def _half(values: Tensor) -> Tensor:
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half()
