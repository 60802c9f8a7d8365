"""Number formats of a training: autocast, and the loss scale of float16."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from training.optimisers.tensor_norms import local

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast to half precision, with a dynamic loss scale where it is float16 (arXiv:1710.03740, section 3.2).

    The scale doubles after `patience` steps whose gradients were finite and halves when they were not; such a step is
    left out. The same rule as `torch.amp.GradScaler`, which judges each rank's gradients by themselves: here the norm
    of the reduced gradients decides, so that ranks (also of sharded gradients) always agree, without a further pass.
    """

    def __init__(self, kind: str, device: torch.device, patience: int = 2000) -> None:
        self.dtype = _HALF.get(kind)
        self.scaled = kind == "fp16"
        self.scale = 2.0**16 if self.scaled else 1.0
        self._device = device.type
        self._patience = patience
        self._finite = 0

    def autocast(self) -> torch.autocast:
        return torch.autocast(self._device, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def scale_up(self, loss: Tensor) -> Tensor:
        """The loss to go backward from."""
        return loss * self.scale if self.scaled else loss

    @torch.no_grad()
    def scale_down(self, module: nn.Module) -> None:
        """Undo the scale in the gradients."""
        if self.scaled:
            gradients = [local(p.grad) for p in module.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.scale)

    def absorbs(self, loss: float) -> bool:
        """Whether gradients that are not finite are only too large for float16, so that a smaller scale helps."""
        return self.scaled and math.isfinite(loss) and self.scale > 2.0**-10

    def settle(self, finite: bool) -> None:
        """Adapt the scale to whether the gradients of this step were finite."""
        if not self.scaled:
            return
        self._finite = self._finite + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self._finite == self._patience:
            self.scale, self._finite = self.scale * 2, 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "finite": self._finite}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scale, self._finite = float(state["scale"]), int(state["finite"])
