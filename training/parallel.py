"""Ranks that share a training: replicas whose gradients are averaged, or FSDP2 shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from training.blocks import repeated_blocks
from training.process_group import average_gradients, world

ParallelName = Literal["auto", "flat", "ddp", "fsdp"]
_BYTES_A_PARAMETER = 16
"""float32 weight, gradient and AdamW's two moments."""


class Parallel:
    """How the ranks share the work.

    "flat": replicas, all gradients averaged by one collective after the backward pass. Any parameter may go without a
    gradient at any step, and the sum has one order, so this is what CPUs take. "ddp": torch's wrapper, whose
    collectives overlap with the backward pass, which is what matters between GPUs. "fsdp": weights, gradients and
    optimiser state are sharded block by block (`fully_shard`), for models that one GPU cannot hold. All three give
    the gradient of the mean of the ranks' losses. "auto": flat on CPUs; on GPUs ddp, or fsdp once weights, gradients
    and AdamW's state would fill half of a GPU.

    module: what to call instead of the objective.
    """

    def __init__(
        self, objective: nn.Module, kind: ParallelName, device: torch.device, half: torch.dtype | None
    ) -> None:
        self.objective = objective
        self.kind = _chosen(objective, kind, device)
        self.module: nn.Module = objective
        if self.kind == "fsdp":
            _shard(objective, device, half)
        elif self.kind == "ddp":
            self.module = DistributedDataParallel(
                objective,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # every rank computes the same ones
                gradient_as_bucket_view=True,
                find_unused_parameters=True,  # an objective may leave a head out of a step
            )

    @contextlib.contextmanager
    def backward_pass(self, last: bool) -> Iterator[None]:
        """Around forward and backward of a part of a batch; gradients cross the ranks with the last part."""
        if last or self.kind in ("alone", "flat"):
            yield
        elif isinstance(self.module, DistributedDataParallel):
            with self.module.no_sync():
                yield
        else:
            assert isinstance(self.module, FSDPModule)
            self.module.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                self.module.set_requires_gradient_sync(True)

    def reduce_gradients(self) -> None:
        """After the last backward pass: every rank has the mean gradient, where it hasn't yet."""
        if self.kind == "flat":
            average_gradients(self.objective.parameters())


def _chosen(objective: nn.Module, kind: ParallelName, device: torch.device) -> str:
    if world() == 1:
        return "alone"
    if kind != "auto":
        return kind
    if device.type != "cuda":
        return "flat"
    needed = _BYTES_A_PARAMETER * sum(p.numel() for p in objective.parameters())
    return "fsdp" if needed > torch.cuda.get_device_properties(device).total_memory / 2 else "ddp"


def _shard(objective: nn.Module, device: torch.device, half: torch.dtype | None) -> None:
    mesh = dist.device_mesh.init_device_mesh(device.type, (world(),))
    # Gradients are summed in float32 and buffers stay as they are; autocast goes on choosing what runs in half.
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    if half is None:
        policy = MixedPrecisionPolicy()
    for block in repeated_blocks(objective):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=MixedPrecisionPolicy())


def snapshot(module: nn.Module) -> dict[str, Any]:
    """A copy of a module's state, for `restore`."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@torch.no_grad()
def restore(module: nn.Module, saved: dict[str, Any]) -> None:
    """Put back what `snapshot` copied."""
    for name, value in module.state_dict().items():
        value.copy_(saved[name])
