"""Exponential moving averages of weights: teachers that follow their students."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def update(
    teacher: nn.Module, student: nn.Module, momentum: float, *, buffers: Literal["own", "average"] = "own"
) -> None:
    """Move every parameter of `teacher` to momentum * teacher + (1 - momentum) * student, in place.

    The mean teacher of arXiv:1703.01780, as in MoCo, BYOL and DINO. Tensors are paired by name; the student may have
    more than the teacher. Works on the shards of FSDP2 without communication.

    buffers: "own" leaves them alone, since a teacher that runs in training mode gathers batch statistics of its own
    (MoCo, BYOL, DINO, lightly); "average" treats floating buffers as parameters and copies the others, for a copy
    that only ever runs in evaluation mode.
    Raises ValueError where the student lacks a tensor, where shapes or shards differ, or where a teacher is kept in
    half precision, in which a step of 1 - momentum would be rounded away.
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"an EMA momentum lies in [0, 1], not {momentum}")
    followed, leading = _pairs(dict(teacher.named_parameters()), dict(student.named_parameters()))
    if buffers == "average":
        mine, theirs = dict(teacher.named_buffers()), dict(student.named_buffers())
        floating = {name: value for name, value in mine.items() if value.is_floating_point()}
        for name in mine.keys() - floating.keys():
            mine[name].copy_(theirs[name])
        more_followed, more_leading = _pairs(floating, theirs)
        followed, leading = followed + more_followed, leading + more_leading
    if followed:
        torch._foreach_lerp_(followed, leading, 1.0 - momentum)


def _pairs(teacher: dict[str, Tensor], student: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    followed, leading = [], []
    for name, target in teacher.items():
        source = student.get(name)
        if source is None:
            raise ValueError(f"the student has no '{name}' that the teacher could follow")
        if target.dtype in (torch.bfloat16, torch.float16):
            raise ValueError(f"teacher's '{name}' is {target.dtype}: keep teachers in float32, or they never move")
        here, there = _shard(target), _shard(source)
        if here.shape != there.shape:
            raise ValueError(f"'{name}' is {tuple(here.shape)} in the teacher, {tuple(there.shape)} in the student")
        followed.append(here)
        leading.append(there.to(here.dtype))
    return followed, leading


def _shard(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()
