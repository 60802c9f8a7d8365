"""What papers start their vision transformers from, where the library starts them otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from training.backbones.interface import Backbone
from training.backbones.transformer import TokenBackbone
from training.positions import sine_cosine_positions

FirstWeights = Literal["library", "mae", "moco_v3", "ijepa"]
LIBRARY: FirstWeights = "library"

_SEED = 0xF1257
_STD = 0.02
_BRANCH_ENDS = ("proj", "out_proj", "fc2", "c_proj")


@dataclass(frozen=True)
class _Start:
    """xavier: matrices by Glorot's rule, else normal. qkv: matrices that a joint one of query, key and value counts
    as. shrink: whether the ends of residual branches shrink with their depth."""

    xavier: bool
    qkv: int = 1
    shrink: bool = False


_STARTS = {"mae": _Start(True), "moco_v3": _Start(True, qkv=3), "ijepa": _Start(False, shrink=True)}


@torch.no_grad()
def set_first_weights(backbone: Backbone, name: str, seed: int) -> None:
    """Start a vision transformer as a paper does: "library" leaves it alone, and so do other kinds of backbones.

    Each name sets the matrices of the blocks (biases zero), the patch projection, as the matrix that it is on a
    flattened patch, and the learned positions, which begin as `sine_cosine_positions`, those of a class token and of
    registers as zero. What a model lacks (such positions, or a width that four divides) is passed over.
    mae: Xavier-uniform, +-sqrt(6 / (rows + columns)) (He et al., 2021, arXiv:2111.06377, appendix A.1). moco_v3: the
    same with query, key and value as three matrices (Chen et al., 2021, arXiv:2104.02057, section 5, and the authors'
    published models). ijepa: normal of 0.02, with the ends of the l-th block's residual branches divided by sqrt(2 l),
    as BEiT has it (arXiv:2106.08254, section 2.5) and the published models of I-JEPA (arXiv:2301.08243).
    Its random numbers have a seed of their own, so that nothing else depends on them.
    Raises ValueError where there is no such name.
    """
    if name == LIBRARY:
        return
    if name not in _STARTS:
        raise ValueError(f"first_weights: '{name}' is none of {', '.join([LIBRARY, *_STARTS])}")
    trunk = backbone.__dict__.get("trunk", backbone)  # a tower's timm model
    if not isinstance(trunk, TokenBackbone):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed ^ _SEED)
        for depth, block in enumerate(trunk.blocks, 1):
            _start_block(block, depth, _STARTS[name])
        projection = getattr(getattr(trunk.model, "patch_embed", None), "proj", getattr(trunk.model, "conv1", None))
        if isinstance(projection, nn.Conv2d | nn.Linear):
            _draw(projection.weight.view(len(projection.weight), -1), _STARTS[name])
    _start_positions(trunk.model)


def _start_block(block: nn.Module, depth: int, start: _Start) -> None:
    for name, module in block.named_modules():
        own = name.rpartition(".")[2]
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            _draw(module.in_proj_weight, start, start.qkv)
        elif isinstance(module, nn.Linear):
            _draw(module.weight, start, start.qkv if own == "qkv" else 1)
            if start.shrink and own in _BRANCH_ENDS:
                module.weight.div_(math.sqrt(2 * depth))
            if module.bias is not None:
                module.bias.zero_()


def _draw(matrix: Tensor, start: _Start, parts: int = 1) -> None:
    if start.xavier:
        bound = math.sqrt(6 / (matrix.shape[0] // parts + matrix.shape[1]))
        matrix.uniform_(-bound, bound)
    else:
        nn.init.trunc_normal_(matrix, std=_STD)


def _start_positions(model: Any) -> None:
    table = getattr(model, "pos_embed", None)
    table = getattr(model, "positional_embedding", None) if table is None else table
    if not isinstance(table, nn.Parameter) or table.shape[-1] % 4:
        return
    grid = tuple(getattr(model, "patch_embed", model).grid_size)
    places = sine_cosine_positions(grid, table.shape[-1])
    rows = table.view(-1, table.shape[-1])
    rows.zero_()
    rows[-len(places) :] = places
