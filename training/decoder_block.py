"""A transformer block that leaves out the outputs that nobody reads."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor


class DecoderBlock(Block):
    """timm's plain block, which can work out the last tokens of a sequence alone; its state dict is timm's.

    Queries, MLP and norms of the tokens that a decoder throws away after its last block are work for nothing.
    """

    def forward(self, x: Tensor, last: int | None = None) -> Tensor:  # type: ignore[override]
        """(B, N, D) to (B, N, D), or to (B, last, D): the last tokens, each of which attends to all N."""
        if last is None:
            return super().forward(x)
        block: Any = self
        attention, width = block.attn, block.attn.attn_dim
        wanted, normed = x[:, -last:], block.norm1(x)
        weight, bias = attention.qkv.weight, attention.qkv.bias
        queries = F.linear(normed[:, -last:], weight[:width], bias[:width])
        queries = queries.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        both = F.linear(normed, weight[width:], bias[width:]).unflatten(-1, (2, attention.num_heads, -1))
        keys, values = both.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        wanted = wanted + attention.proj(attended)
        return wanted + block.mlp(block.norm2(wanted))
