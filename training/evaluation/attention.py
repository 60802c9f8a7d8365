"""Attention maps of vision transformers, taken from the attention calls of an ordinary forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from training.backbones.transformer import TokenBackbone


class _Attention(TorchFunctionMode):
    """Notes the softmax of one of the attentions, whatever library's module calls torch's functions for it."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted, self.calls = wanted, 0
        self.found: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func not in (F.multi_head_attention_forward, F.scaled_dot_product_attention):
            return func(*args, **options)
        self.calls += 1
        if self.calls - 1 != self.wanted:
            return func(*args, **options)
        if func is F.multi_head_attention_forward:
            out, self.found = func(*args, **{**options, "need_weights": True, "average_attn_weights": False})
            return out, self.found if options.get("need_weights", True) else None
        self.found = _softmax(**dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | options)
        return func(*args, **options)


def _softmax(
    query: Tensor, key: Tensor, attn_mask: Tensor | None = None, scale: float | None = None, **_: Any
) -> Tensor:
    logits = query.float() @ key.float().transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    return logits.softmax(dim=-1)


@torch.no_grad()
def attention_weights(backbone: TokenBackbone, images: Tensor, layer: int = -1) -> NDArray[np.float32]:
    """(B, heads, L, L) attention of each token of block `layer` to each other; class token and registers first.

    images: (B, channels, H, W), normalised. The backbone is left in the mode it was in. Raises ValueError where it has
    no such block or computes its attention by other functions than torch's own.
    """
    depth = len(backbone.blocks)
    if not -depth <= layer < depth:
        raise ValueError(f"this backbone has blocks 0 to {depth - 1}, not {layer}")
    was_training = backbone.training
    backbone.eval()
    try:
        with _Attention(layer % depth) as seen:
            backbone.tokens(images)
    finally:
        backbone.train(was_training)
    if seen.found is None or seen.calls < depth:
        raise ValueError("the attention of this backbone cannot be seen: it is not torch's")
    return seen.found.reshape(len(images), -1, *seen.found.shape[-2:]).cpu().numpy()


def attention_maps(
    weights: NDArray[np.floating], prefix: int, grid: tuple[int, int], *, from_cls: bool
) -> NDArray[np.float64]:
    """(B, heads, rows, columns) attention to each patch, from the class token or on average over all patches.

    weights: from `attention_weights`. prefix: tokens before the patches. Each map sums to 1.
    """
    to_patches = np.asarray(weights, dtype=np.float64)[..., prefix:]
    rows = to_patches[:, :, 0] if from_cls else to_patches[:, :, prefix:].mean(axis=2)
    return (rows / rows.sum(axis=2, keepdims=True)).reshape(*rows.shape[:2], *grid)


def attention_distance(weights: NDArray[np.floating], prefix: int, grid: tuple[int, int]) -> NDArray[np.float64]:
    """(heads,) mean distance, in patches, between a patch and what it attends to (Dosovitskiy et al., 2020).

    Short in local heads, about half the side in global ones (arXiv:2010.11929, figure 7; arXiv:2212.03862).
    """
    between = np.asarray(weights, dtype=np.float64)[:, :, prefix:, prefix:]
    between = between / between.sum(axis=3, keepdims=True)
    down, across = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    far = np.hypot(down[:, None] - down, across[:, None] - across)
    return (between * far).sum(axis=3).mean(axis=(0, 2))


def overlay(
    pixels: NDArray[np.uint8], maps: NDArray[np.floating], *, mass: float = 0.6, strength: float = 0.7
) -> NDArray[np.uint8]:
    """(B, heads, H, W, 3) pictures: what holds the first `mass` of the attention stays, the rest is darkened.

    pixels: (B, H, W, 3). maps: (B, heads, rows, columns) from `attention_maps`, scaled to the pixels without
    smoothing. (The threshold of DINO's figures, arXiv:2104.14294, is a mass of .6.)
    """
    flat = maps.reshape(*maps.shape[:2], -1)
    order = np.argsort(-flat, axis=2, kind="stable")
    before = np.cumsum(np.take_along_axis(flat, order, axis=2), axis=2) - np.take_along_axis(flat, order, axis=2)
    kept = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(kept, order, before < mass, axis=2)
    height, width = pixels.shape[1:3]
    down = np.arange(height) * maps.shape[2] // height
    across = np.arange(width) * maps.shape[3] // width
    light = np.where(kept.reshape(maps.shape)[:, :, down][:, :, :, across], 1.0, 1 - strength)
    return np.round(pixels[:, None] * light[..., None]).astype(np.uint8)
