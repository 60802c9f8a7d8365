"""Batch normalisation over the global batch: N ranks normalise as one would, on CPU and GPU.

`torch.nn.SyncBatchNorm` refuses CPU tensors, so that equality of ranks could not be tested without GPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.process_group import sum_over_ranks, world


class GlobalBatchNorm(_BatchNorm):
    """`nn.BatchNorm*d` whose statistics are those of all ranks' batches together; every rank has the same share."""

    drop: nn.Module
    act: nn.Module

    @classmethod
    def taking_over(cls, norm: _BatchNorm) -> GlobalBatchNorm:
        """A synchronised norm with the parameters, buffers and (timm's) activation of `norm`."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        for name in ("weight", "bias"):
            setattr(new, name, getattr(norm, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            new.register_buffer(name, getattr(norm, name))
        new.drop = getattr(norm, "drop", nn.Identity())
        new.act = getattr(norm, "act", nn.Identity())
        return new.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.ndim < 2:
            raise ValueError(f"batch normalisation needs at least 2 dimensions, not {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training or world() == 1:
            return self.act(self.drop(super().forward(input)))
        shape = (1, -1) + (1,) * (input.ndim - 2)
        axes = [0, *range(2, input.ndim)]
        count = input.numel() // input.shape[1] * world()
        mean = sum_over_ranks(input.sum(axes)) / count
        centred = input - mean.view(shape)
        var = sum_over_ranks((centred * centred).sum(axes)) / count
        self._track(mean.detach(), var.detach(), count)
        normal = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return self.act(self.drop(normal))

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((var * count / max(count - 1, 1)).to(self.running_var.dtype), share)


def synchronised(module: nn.Module) -> nn.Module:
    """Replace every batch norm inside `module` (in place) by one over all ranks; names in the state dict stay."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, GlobalBatchNorm):
            setattr(module, name, GlobalBatchNorm.taking_over(child))
        else:
            synchronised(child)
    return module
