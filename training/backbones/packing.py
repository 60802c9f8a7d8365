"""Crops of several sizes as one sequence: every crop attends to itself alone, all else is done on all tokens at once.

Norms, projections and MLPs see one (1, T, D) tensor; attention runs once for each crop size on (B, L, D) views of it,
which is block-diagonal attention without a mask and needs nothing but `scaled_dot_product_attention`. A crop size has
one length, so no padding is spent. Measured on CPU (tests/benchmarks/packed_crops.py), this is faster than one call
under a T x T mask or on padded crops; on GPUs a variable-length kernel could replace the few calls of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from timm.layers import Attention, AttentionRope, DropPath, apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock
from torch import Tensor, nn

_ATTENTIONS = (Attention, AttentionRope, EvaAttention)


@dataclass(frozen=True)
class Packing:
    """Where crops lie in a packed sequence of T tokens: group after group, crop after crop.

    sizes: (crops, tokens of a crop) for each group. rope: (T, heads or 1, 2 * head width) sines and cosines of all
    tokens, where the model has rotary positions.
    """

    sizes: tuple[tuple[int, int], ...]
    rope: Tensor | None = None

    def split(self, x: Tensor) -> list[Tensor]:
        """(T, ...) or (1, T, ...) to one (B, L, ...) view for each group."""
        x = x[0] if x.ndim == 3 and x.shape[0] == 1 else x
        parts = x.split([crops * length for crops, length in self.sizes])
        return [part.unflatten(0, size) for part, size in zip(parts, self.sizes, strict=True)]


def is_packable(block: nn.Module) -> bool:
    """Whether `block` is one whose packed form is known here."""
    if type(block) in (Block, ResPostBlock, EvaBlock, EvaBlockPostNorm):
        return type(block.attn) in _ATTENTIONS
    return type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")


def accept_packing(block: nn.Module) -> None:
    """Let `block(x, packing=...)` take a packed sequence; without `packing` it stays what it was.

    The call goes through the block itself, so that what wraps a block (checkpointing, sharding, compilation) holds
    for packed sequences, too.
    """
    block.forward = MethodType(_forward, block)


def _forward(block: nn.Module, x: Tensor, *arguments: Any, packing: Packing | None = None, **options: Any) -> Tensor:
    if packing is None:
        return type(block).forward(block, x, *arguments, **options)
    for branch, drop_path in _branches(block):
        x = x + _drop_crops(drop_path, branch(x, packing), packing)
    return x


_Branch = Callable[[Tensor, Packing], Tensor]


def _branches(block: Any) -> list[tuple[_Branch, nn.Module]]:
    """The residual branches of a block, attention first, each with its stochastic depth."""
    if isinstance(block, ResidualAttentionBlock):
        return [
            (lambda x, p: block.ls_1(_attend(block.attn, block.ln_1(x), p)), nn.Identity()),
            (lambda x, _: block.ls_2(block.mlp(block.ln_2(x))), nn.Identity()),
        ]
    if isinstance(block, ResPostBlock | EvaBlockPostNorm):
        return [
            (lambda x, p: block.norm1(_attend(block.attn, x, p)), block.drop_path1),
            (lambda x, _: block.norm2(block.mlp(x)), block.drop_path2),
        ]
    if isinstance(block, EvaBlock):
        first, second = _scale(block.gamma_1), _scale(block.gamma_2)
    else:
        first, second = block.ls1, block.ls2
    return [
        (lambda x, p: first(_attend(block.attn, block.norm1(x), p)), block.drop_path1),
        (lambda x, _: second(block.mlp(block.norm2(x))), block.drop_path2),
    ]


def _scale(gamma: Tensor | None) -> Callable[[Tensor], Tensor]:
    return (lambda x: x) if gamma is None else (lambda x: gamma * x)


def _drop_crops(drop_path: nn.Module, x: Tensor, packing: Packing) -> Tensor:
    """Stochastic depth by crop, not by the one row that a packed sequence is."""
    if not isinstance(drop_path, DropPath) or not drop_path.training or not drop_path.drop_prob:
        return x
    kept = 1 - drop_path.drop_prob
    crops = [x.new_empty(crops, 1).bernoulli_(kept).expand(-1, length) for crops, length in packing.sizes]
    factor = torch.cat([part.reshape(-1) for part in crops])
    if kept > 0 and drop_path.scale_by_keep:
        factor = factor / kept
    return x * factor.view(1, -1, 1)


def _attend(attention: Any, x: Tensor, packing: Packing) -> Tensor:
    """(1, T, D) to (1, T, D): projections on all tokens, attention within each crop."""
    q, k, v = _projected(attention, x[0])
    if packing.rope is not None:
        half = bool(getattr(attention, "rotate_half", False))
        q, k = (apply_rot_embed_cat(t, packing.rope, half=half).type_as(v) for t in (q, k))
    if attention.training:
        dropout = attention.dropout if isinstance(attention, nn.MultiheadAttention) else attention.attn_drop.p
    else:
        dropout = 0.0
    out = attention_by_size(q, k, v, packing, dropout).unsqueeze(0)
    if isinstance(attention, nn.MultiheadAttention):
        return attention.out_proj(out)
    out = attention.norm(out)
    if attention.gate is not None:
        out = out * attention.gate(x).sigmoid()
    return attention.proj_drop(attention.proj(out))


def attention_by_size(q: Tensor, k: Tensor, v: Tensor, packing: Packing, dropout: float) -> Tensor:
    """Attention of (T, heads, d) within each crop, one call for each crop size: (T, heads * d)."""
    groups = zip(packing.split(q), packing.split(k), packing.split(v), strict=True)
    attended = [
        F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), dropout_p=dropout
        ).transpose(1, 2)
        for query, key, value in groups
    ]
    return torch.cat([part.flatten(2).flatten(0, 1) for part in attended])


def _projected(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (T, heads, head width) of (T, D) tokens, normalised where the model does that."""
    heads = attention.num_heads
    if isinstance(attention, nn.MultiheadAttention):
        q, k, v = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).unflatten(-1, (3, heads, -1)).unbind(1)
        return q, k, v
    if attention.qkv is None:
        q, k, v = (
            projection(x).unflatten(-1, (-1, attention.head_dim))
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
    else:
        bias = getattr(attention, "q_bias", None)
        if bias is not None:
            bias = torch.cat([bias, attention.k_bias, attention.v_bias])
            qkv = F.linear(x, attention.qkv.weight, bias)
        else:
            qkv = attention.qkv(x)
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).unbind(1)
    q, k = attention.q_norm(q), attention.k_norm(k)
    if k.shape[1] != heads:
        k, v = (t.repeat_interleave(heads // k.shape[1], dim=1) for t in (k, v))
    return q, k, v
