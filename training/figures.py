"""The figures of the steps, agreed among the ranks in one collective and read by the host once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.process_group import all_reduce_mean


@dataclass(frozen=True)
class Agreed:
    """The same values on every rank.

    bad_step: the first step whose loss or gradient norm was not finite, or None. stop: whether any rank saw the wish
    to stop. latest: means over the ranks of the last step's figures, by name.
    """

    bad_step: int | None
    stop: bool
    latest: dict[str, float] = field(default_factory=dict)


class Figures:
    """Collects loss and gradient norm of each step on the device until they are read."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._pending: list[Tensor] = []

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note a step without waiting for its results."""
        self._steps.append(step)
        self._pending.append(torch.stack([loss.detach().double(), norm.detach().double()]))

    def settle(self, further: dict[str, Tensor], stop: bool) -> Agreed:
        """Agree on everything noted since the last time; the one place where the host waits for the device.

        further: scalars of the last step, the same names on every rank.
        """
        device = self._pending[-1].device if self._pending else torch.device("cpu")
        extras = [value.detach().to(device, torch.float64) for value in further.values()]
        wish = torch.tensor(float(stop), dtype=torch.float64, device=device)
        values = all_reduce_mean(torch.cat([*self._pending, torch.stack([*extras, wish])])).tolist()
        pairs = list(zip(values[0 : 2 * len(self._steps) : 2], values[1 : 2 * len(self._steps) : 2], strict=True))
        bad = (step for step, pair in zip(self._steps, pairs, strict=True) if not all(map(math.isfinite, pair)))
        latest = dict(zip(further, values[2 * len(self._steps) : -1], strict=True))
        if pairs:
            latest = {"loss": pairs[-1][0], "grad_norm": pairs[-1][1], **latest}
        self._steps, self._pending = [], []
        return Agreed(next(bad, None), values[-1] > 0, latest)
