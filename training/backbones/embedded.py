"""From patch embeddings to the sequence that the blocks see: masks, positions, dropping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor


@dataclass
class Embedded:
    """A batch before its first block.

    x: (B, prefix + K, D). grid: (rows, columns) of all patches. rope: sines and cosines that timm's blocks take, or
    None: (N, 2 d) or (B, 1, K, 2 d); with a leading axis of layers, and heads in place of the 1, where each layer
    has rotations of its own.
    """

    x: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None
    rope_by_layer: bool = False

    def rope_of(self, layer: int) -> Tensor | None:
        """What block `layer` takes as its `rope`."""
        return self.rope[layer] if self.rope is not None and self.rope_by_layer else self.rope

    def packed_rope(self, layer: int, prefix: int) -> Tensor | None:
        """(B * (prefix + K), heads or 1, 2 d): a rotation for every token; class token and registers stay unturned."""
        rope = self.rope_of(layer)
        if rope is None:
            return None
        while rope.ndim < 4:
            rope = rope.unsqueeze(0)
        still = unturned(rope[..., :1, :]).expand(*rope.shape[:2], prefix, -1)
        whole = torch.cat([still, rope], dim=2).transpose(1, 2)
        return whole.expand(len(self.x), -1, -1, -1).flatten(0, 1)


def unturned(rope: Tensor) -> Tensor:
    """Sines of 0 and cosines of 1 in the shape of `rope`: the rotation that does nothing."""
    half = rope.shape[-1] // 2
    return torch.cat([torch.zeros_like(rope[..., :half]), torch.ones_like(rope[..., half:])], dim=-1)


def resampled_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(1, N, D) learned positions of the grid `old` for the grid `new`, bicubic with antialiasing."""
    if old == new:
        return positions
    return resample_abs_pos_embed(positions, new_size=list(new), old_size=list(old), num_prefix_tokens=0)


def masked(patches: Tensor, mask: Tensor | None, mask_token: Tensor | None) -> Tensor:
    """(B, N, D) patches with `mask_token` where `mask` (B, N) is true. Raises ValueError for one without the other."""
    if mask is None and mask_token is None:
        return patches
    if mask is None or mask_token is None:
        raise ValueError("a mask needs the token that stands in for masked patches, and the token needs a mask")
    return torch.where(mask.unsqueeze(-1), mask_token.to(patches.dtype), patches)


def perturbed_positions(positions: Tensor | None, noise: Tensor | None, dropped: Tensor | None) -> Tensor | None:
    """(1 or B, N, D) learned positions: zero where `dropped` (B, N) is true, then plus `noise`.

    Raises ValueError where there is noise for a model without learned positions.
    """
    if positions is None:
        if noise is not None:
            raise ValueError("this backbone has no learned positions that noise could be added to")
        return None
    if dropped is not None:
        positions = positions.masked_fill(dropped.unsqueeze(-1), 0)
    return positions if noise is None else positions + noise.to(positions.dtype)


def kept_rope(rope: Tensor, keep: Tensor | None, dropped: Tensor | None, by_layer: bool) -> Tensor:
    """Rotations of the patches in `keep` (B, K), none where `dropped` (B, N) is true, in the shapes of `Embedded`."""
    if keep is None and dropped is None:
        return rope
    if not by_layer:
        rope = rope.unsqueeze(0)
    batch = len(keep if keep is not None else dropped)  # type: ignore[arg-type]
    rope = rope.unsqueeze(-4).expand(*rope.shape[:-3], batch, *rope.shape[-3:])
    if dropped is not None:
        rope = torch.where(dropped.view(batch, 1, -1, 1), unturned(rope), rope)
    if keep is not None:
        rope = rope.gather(-2, keep.view(batch, 1, -1, 1).expand(*rope.shape[:-2], -1, rope.shape[-1]))
    return rope


def kept(patches: Tensor, keep: Tensor | None) -> Tensor:
    """(B, K, D): the patches of (B, N, D) that `keep` (B, K) names, in its order."""
    return patches if keep is None else patches.gather(1, keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
