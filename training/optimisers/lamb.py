"""LAMB."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from training.optimisers.tensor_norms import local, norms, together, trust_ratios


class LAMB(Optimizer):
    """Adam whose step in each tensor is scaled to the tensor's own norm (You et al., arXiv:1904.00962, algorithm 2).

    r = m_hat / (sqrt(v_hat) + eps) + decay * w, then w = w - lr * |w| / |r| * r; where a norm is 0, the scale is 1.
    Tensors of groups that no weight decay reaches take plain Adam steps, so that biases and norms are not held to
    their size.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameters in together([parameter for parameter in group["params"] if parameter.grad is not None]):
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        weights = [local(parameter) for parameter in parameters]
        updates = list(torch._foreach_mul(weights, group["weight_decay"]))
        self._add_adam(updates, parameters, group)
        if group.get("decay_factor", group["weight_decay"]) > 0:
            ratios = trust_ratios(norms(weights, parameters), norms(updates, parameters))
            torch._foreach_mul_(updates, list(ratios.unbind()))
        torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _add_adam(self, updates: list[Tensor], parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Take in gradients, and add bias-corrected m / (sqrt(v) + eps) of each parameter's shard to `updates`."""
        beta1, beta2 = group["betas"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros(()), exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter)
                )
        states = [self.state[parameter] for parameter in parameters]
        means, squares = [local(s["exp_avg"]) for s in states], [local(s["exp_avg_sq"]) for s in states]
        gradients = [local(parameter.grad) for parameter in parameters]  # type: ignore[arg-type]
        torch._foreach_add_([s["step"] for s in states], 1.0)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        counts = [float(s["step"]) for s in states]
        scales = list(torch._foreach_sqrt(squares))
        torch._foreach_mul_(scales, [(1 - beta2**count) ** -0.5 for count in counts])
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_addcdiv_(updates, means, scales, [1 / (1 - beta1**count) for count in counts])
