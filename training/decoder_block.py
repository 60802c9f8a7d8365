"""A transformer block that leaves out work whose result is known, or that nobody reads."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor


class DecoderBlock(Block):
    """timm's plain block, state dict and all, without what a masked decoder's first and last block do for nothing.

    In the first, masked tokens differ by their position alone, so that norm and projection are worked out once for a
    position. In the last, queries, MLP and norms of tokens whose outputs are thrown away are left out.
    """

    def forward(  # type: ignore[override]
        self, x: Tensor, last: int | None = None, masked: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(B, N, D) to (B, N, D), or to (B, last, D): the last tokens, each of which attends to all N.

        masked: (R, D) masked tokens of all positions, and (B, M) the positions of the last M tokens of `x`, which are
        such tokens.
        """
        if last is None and masked is None:
            return super().forward(x)
        block: Any = self
        wanted = x if last is None else x[:, -last:]
        queries, keys, values = self._projected(x, wanted.shape[1], masked)
        attended = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        wanted = wanted + block.attn.proj(attended)
        return wanted + block.mlp(block.norm2(wanted))

    def _projected(self, x: Tensor, last: int, masked: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, heads, last, d) queries, (B, heads, N, d) keys and values."""
        block: Any = self
        attention, width = block.attn, block.attn.attn_dim
        if masked is None:
            normed, (weight, bias) = block.norm1(x), (attention.qkv.weight, attention.qkv.bias)
            queries = F.linear(normed[:, -last:], weight[:width], bias[:width])
            keys, values = F.linear(normed, weight[width:], bias[width:]).split(width, dim=-1)
        else:
            tokens, positions = masked
            own, shared = (attention.qkv(block.norm1(part)) for part in (x[:, : -positions.shape[1]], tokens))
            every = torch.cat([own, F.embedding(positions, shared)], dim=1)
            queries, keys, values = every.split(width, dim=-1)
        parts = (queries[:, -last:], keys, values)
        return tuple(part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts)  # type: ignore[return-value]
