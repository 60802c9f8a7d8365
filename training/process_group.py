"""Ranks of one training: joining a process group, and sums over it that gradients flow through."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if _joined() else 1


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def join(rank: int, world: int, meeting_file: Path) -> None:
    """Join a process group whose ranks meet through a file on a shared disk: nccl on GPUs, gloo on CPUs."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    elif Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(meeting_file), world)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)


def leave() -> None:
    """Leave the process group, if there is one."""
    if _joined():
        dist.destroy_process_group()


def spawn(loop: Callable[[dict[str, Any]], None], config: dict[str, Any], workers: int) -> None:
    """Run `loop(config)` on `workers` ranks of this machine, each a fresh process; an error in one ends all."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run_rank, args=(loop, config, workers, Path(folder) / "meeting"), nprocs=workers, join=True)


def _run_rank(
    rank: int, loop: Callable[[dict[str, Any]], None], config: dict[str, Any], world: int, meeting_file: Path
) -> None:
    faulthandler.enable()  # a rank that native code ends says where it was
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    os.environ["LOCAL_RANK"] = str(rank)
    join(rank, world, meeting_file)
    try:
        loop(config)
    finally:
        leave()
    sys.stdout.flush()
    sys.stderr.flush()
    # DTensor's caches keep an FSDP training's group, and the threads of gloo and autograd, beyond `leave`. Taking down
    # the interpreter under them may abort a process whose work is done.
    os._exit(0)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum over ranks. The gradient is the sum of all ranks' gradients: every rank's loss depends on the sum."""
    return _Sum.apply(tensor) if world() > 1 else tensor


def gather_over_ranks(tensor: Tensor) -> Tensor:
    """Concatenate (B, ...) of all ranks, in rank order, to (world * B, ...). Gradients of all ranks flow back."""
    return _Gather.apply(tensor) if world() > 1 else tensor


@torch.no_grad()
def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Mean over ranks, without gradient."""
    if world() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world()


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over ranks, in one collective; each rank takes part with every parameter."""
    if world() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world()
    parts = [part.view_as(p) for p, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True)]
    torch._foreach_copy_(gradients, parts)  # in place: fused optimisers need gradients laid out as their parameters
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient
