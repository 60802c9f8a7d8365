"""Optimisers by name; no weight decay on biases, norms and whatever the backbone asks to leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer


class LARS(Optimizer):
    """SGD with momentum whose step in each tensor is scaled to the tensor's own norm (You et al., arXiv:1708.03888).

    Tensors of groups without weight decay take plain SGD steps, as SimCLR and BYOL do with biases and norms.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"] > 0:
            gradient = gradient + group["weight_decay"] * parameter
            size, push = parameter.norm(), gradient.norm()
            ratio = torch.where((size > 0) & (push > 0), group["trust"] * size / push, torch.ones_like(size))
            gradient = gradient * ratio
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        parameter.add_(state["momentum_buffer"], alpha=-group["lr"])


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels with weight decay; vectors and the model's own exceptions without."""
    spared = {
        f"{prefix}.{name}" if prefix else name
        for prefix, child in module.named_modules()
        if hasattr(child, "no_weight_decay")
        for name in child.no_weight_decay()  # type: ignore[operator]
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 or name in spared else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def make_optimiser(
    name: str, module: nn.Module, *, lr: float, weight_decay: float, momentum: float, beta2: float
) -> Optimizer:
    """AdamW (arXiv:1711.05101), SGD with Nesterov momentum, or LARS over a module's trainable parameters.

    momentum: of SGD and LARS. beta2: of AdamW. Raises ValueError where the name is another.
    """
    groups = parameter_groups(module, weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2))
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    if name == "lars":
        return LARS(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
    raise ValueError(f"there is no optimiser '{name}'; available: adamw, sgd, lars")
