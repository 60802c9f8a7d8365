"""LARS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from training.optimisers.tensor_norms import local, norms, together, trust_ratios


class LARS(Optimizer):
    """SGD with momentum whose step in each tensor is scaled to the tensor's own norm (You et al., arXiv:1708.03888).

    v = momentum * v + trust * |w| / |g + decay * w| * (g + decay * w), then w = w - lr * v; where a norm is 0, the
    scale is 1. The norm is that of the sum, as in SimCLR and BYOL; the paper adds the two norms. Tensors of groups
    that no weight decay reaches take plain momentum steps, as there with biases and norms.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameters in together([parameter for parameter in group["params"] if parameter.grad is not None]):
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [local(self.state[parameter]["momentum_buffer"]) for parameter in parameters]
        weights = [local(parameter) for parameter in parameters]
        pushes = [local(parameter.grad) for parameter in parameters]  # type: ignore[arg-type]
        torch._foreach_mul_(buffers, group["momentum"])
        if group.get("decay_factor", group["weight_decay"]) > 0:
            pushes = list(torch._foreach_add(pushes, weights, alpha=group["weight_decay"]))
            ratios = trust_ratios(norms(weights, parameters), norms(pushes, parameters), group["trust"])
            torch._foreach_mul_(pushes, list(ratios.unbind()))
        torch._foreach_add_(buffers, pushes)
        torch._foreach_add_(weights, buffers, alpha=-group["lr"])
