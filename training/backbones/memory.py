"""How much memory a transformer's activations take in a training step, told before the step fails for lack of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import psutil
import torch
from torch import nn

from training.backbones.interface import Backbone
from training.backbones.transformer import TokenBackbone
from training.device import number_format
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe, local_side

_HOPELESS = 10
"""Objectives may drop most patches; none drops nine tenths and more of all that it was given."""


def activation_bytes(
    backbone: TokenBackbone, crops: Sequence[tuple[int, int]], *, value_bytes: int = 4, recompute: bool = False
) -> int:
    """Bytes that the blocks keep for the backward pass, with every patch present; attention itself keeps no square.

    crops: (number of images, side in pixels) for each crop size. For every token a block keeps its input, the outputs
    of two norms, queries, keys, values, what attention gives and the state between its branches: 8 values a channel,
    2 more with layer scales, 4 more with rotary positions; and the hidden layer of its MLP before and after the
    activation. recompute: blocks keep their inputs alone.
    """
    turned = getattr(backbone.model, "rope", None) is not None
    blocks = [_values_a_token(block, backbone.token_dim, turned) for block in backbone.blocks]
    kept = len(blocks) * backbone.token_dim + max(blocks) if recompute else sum(blocks)
    tokens = sum(images * (backbone.prefix + (side // backbone.patch) ** 2) for images, side in crops)
    return tokens * kept * value_bytes


def _crops(plan: PretrainingPlan, ranks: int) -> list[tuple[int, int]]:
    recipe = ViewRecipe(**plan.views)
    images = plan.batch // (ranks * plan.accumulate)
    local = (images * recipe.local_crops, recipe.local_size or local_side(plan.image_size, 1))
    return [(images * recipe.crops, plan.image_size), *([local] if recipe.local_crops else [])]


def _values_a_token(block: nn.Module, dim: int, turned: bool) -> int:
    hidden = max(layer.out_features for layer in block.modules() if isinstance(layer, nn.Linear))
    scaled = any("gamma" in name for name, _ in block.named_parameters())
    return (8 + 2 * scaled + 4 * turned) * dim + 2 * hidden


def guard_memory(backbone: Backbone, plan: PretrainingPlan, ranks: int, device: torch.device) -> None:
    """Warn where a step's activations would not fit `device` if the objective drops no patches.

    Raises ValueError where they would not fit even if it dropped nine tenths of them.
    """
    if not isinstance(backbone, TokenBackbone):
        return
    crops = _crops(plan, ranks)
    value_bytes = 4 if number_format(plan.precision, device) == "fp32" else 2
    needed = activation_bytes(backbone, crops, value_bytes=value_bytes, recompute=plan.recompute)
    has = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total
    if needed <= has:
        return
    most = max((side // backbone.patch) ** 2 for _, side in crops)
    message = (
        f"activations of a step take about {needed / 2**30:.0f} GiB where no patch is dropped ({most} patches of "
        f"{backbone.patch} px an image), and there are {has / 2**30:.0f}: set recompute or accumulate, a smaller "
        "batch or image_size, or a larger backbone_options.patch_size"
    )
    if needed > _HOPELESS * has:
        raise ValueError(message)
    warnings.warn(message, stacklevel=2)
