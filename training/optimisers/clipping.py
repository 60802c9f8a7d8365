"""Limits on the norm of gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.optimisers.tensor_norms import local, norms


@torch.no_grad()
def clip_gradients(module: nn.Module, limit: float, *, by_part: bool = False) -> dict[str, Tensor]:
    """Scale gradients down, in place, to a Euclidean norm of at most `limit`; 0 only measures.

    by_part: limit each direct child of `module` (backbone, projector, predictor, ...) by itself, as DINOv2 does
    (arXiv:2304.07193), so that one head's spike does not slow the others; else the whole gradient is limited.
    Returns norms before clipping: "total", and by part where parts are limited. Sharded gradients count whole.
    """
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(name.partition(".")[0] if by_part else "total", []).append(parameter.grad)
    found = {
        part: torch.linalg.vector_norm(norms([local(g) for g in gradients], gradients))
        for part, gradients in parts.items()
    }
    if limit > 0:
        for part, gradients in parts.items():
            scale = (limit / (found[part] + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([local(gradient) for gradient in gradients], scale)
    if by_part:
        found["total"] = torch.linalg.vector_norm(torch.stack(list(found.values()))) if found else torch.zeros(())
    return found or {"total": torch.zeros(())}
