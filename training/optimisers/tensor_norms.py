"""Norms of many tensors at once, sharded ones included."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds: the tensor itself, or a DTensor's shard, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def norms(shards: Sequence[Tensor], whole: Sequence[Tensor]) -> Tensor:
    """(n,) Euclidean norms of tensors of which this rank holds `shards`, laid out as those of `whole` are.

    Squares of sharded tensors are summed over their ranks, in one collective a mesh.
    """
    sizes = torch.stack(torch._foreach_norm(list(shards)))
    meshes: dict[tuple[object, tuple[int, ...]], list[int]] = {}
    for index, tensor in enumerate(whole):
        if isinstance(tensor, DTensor):
            dims = tuple(dim for dim, placement in enumerate(tensor.placements) if placement.is_shard())
            meshes.setdefault((tensor.device_mesh, dims), []).append(index)
    for (mesh, dims), indices in meshes.items():
        squares = sizes[indices].square()
        for dim in dims:
            dist.all_reduce(squares, group=mesh.get_group(dim))  # type: ignore[attr-defined]
        sizes[indices] = squares.sqrt()
    return sizes


def trust_ratios(weights: Tensor, pushes: Tensor, trust: float = 1.0) -> Tensor:
    """(n,) trust times the norm of weights over the norm of their updates; 1 where either is 0."""
    return torch.where((weights > 0) & (pushes > 0), trust * weights / pushes, torch.ones_like(weights))


def together(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parameters to step at once: all on a GPU, where launches cost, else one by one, while each is in the cache."""
    if not parameters or parameters[0].device.type == "cpu":
        return [[parameter] for parameter in parameters]
    return [list(parameters)]
