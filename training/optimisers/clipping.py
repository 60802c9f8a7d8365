"""Limits on the norm of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.optimisers.tensor_norms import local, norms

Parts = Mapping[str, Sequence[Tensor]]


def clipped_parts(module: nn.Module, *, by_part: bool = False) -> Parts:
    """The parameters whose gradients share one norm: all of them, as "total", or by direct child of `module`
    (backbone, projector, predictor, ...), as DINOv2 does (arXiv:2304.07193), so that one head's spike does not slow
    the others."""
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parts.setdefault(name.partition(".")[0] if by_part else "total", []).append(parameter)
    return parts


@torch.no_grad()
def clip_gradients(parts: Parts, limit: float) -> dict[str, Tensor]:
    """Scale gradients down, in place, to a Euclidean norm of at most `limit` for each part; 0 only measures.

    Returns norms before clipping: "total", and by part where there are parts. Sharded gradients count whole.
    """
    found = {}
    for part, parameters in parts.items():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            continue
        own = [local(gradient) for gradient in gradients]
        found[part] = torch.linalg.vector_norm(norms(own, gradients))
        if limit > 0:
            torch._foreach_mul_(own, (limit / (found[part] + 1e-6)).clamp(max=1.0))
    if "total" not in found:
        found["total"] = torch.linalg.vector_norm(torch.stack(list(found.values()))) if found else torch.zeros(())
    return found
