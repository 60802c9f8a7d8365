"""Muon on hidden matrices, AdamW on the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim.optimizer import Optimizer


class MuonWithAdamW(Optimizer):
    """Orthogonalised momentum for hidden matrices (Jordan, 2024; torch.optim.Muon), AdamW for everything else.

    Groups with `"muon": True` hold matrices only. Their steps are scaled by 0.2 * sqrt(max(rows, columns)), which
    gives them the size of AdamW's, so that both share one learning rate and weight decay (arXiv:2502.16982, eq. 4).
    It is one optimiser to whoever holds it: one list of groups, one state, one state dict.
    """

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        fused: bool | None = None,
    ) -> None:
        matrices = [group for group in params if group.get("muon")]
        others = [group for group in params if not group.get("muon")]
        if not matrices:
            raise ValueError("muon needs hidden matrices, as the blocks of a vision transformer have: use adamw here")
        self._inner: list[Optimizer] = [
            torch.optim.Muon(
                matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        ]
        if others:
            self._inner.append(torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused))
        super().__init__([group for inner in self._inner for group in inner.param_groups], {"lr": lr})
        self._share()

    def _share(self) -> None:
        """Let the two work on this optimiser's own groups and state."""
        start = 0
        for inner in self._inner:
            inner.param_groups = self.param_groups[start : start + len(inner.param_groups)]
            inner.state = self.state
            start += len(inner.param_groups)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for inner in self._inner:
            inner.step()
        return loss
