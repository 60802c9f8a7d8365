"""Schedules: functions of the step, so there is nothing to restore."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

ScheduleName = Literal["constant", "linear", "cosine", "trapezoid"]
Cooldown = Literal["linear", "sqrt"]
ScalingRule = Literal["none", "linear", "sqrt"]


@dataclass(frozen=True)
class Schedule:
    """A value over a training: frozen at 0, then a linear warm-up, then the named course. Plain values.

    name: "constant" stays at `peak`; "linear" and "cosine" go from `peak` to `end`, rising as well as falling (a
    weight decay, an EMA momentum); "trapezoid" stays at `peak` and cools down to `end` over the last share.
    peak: value after the warm-up. end: value that the last step leads to, reached at `step == steps` as in the
    schedules of DINO (arXiv:2104.14294), MAE and WSD (arXiv:2405.18392). start: value that the warm-up rises from;
    its first step is already above it, so that no step is idle.
    warmup, cooldown, freeze: shares of all steps; warmup_steps: the warm-up as a number of steps instead.
    cooldown_shape: "linear", or "sqrt" for 1 - sqrt(share), which ends lower in loss (arXiv:2405.18392, section 4).
    Raises ValueError where shares leave [0, 1] or overlap.
    """

    name: ScheduleName = "cosine"
    peak: float = 1.0
    end: float = 0.0
    start: float = 0.0
    warmup: float = 0.0
    warmup_steps: int = 0
    cooldown: float = 0.2
    cooldown_shape: Cooldown = "linear"
    freeze: float = 0.0

    def __post_init__(self) -> None:
        for field, known in (("name", get_args(ScheduleName)), ("cooldown_shape", get_args(Cooldown))):
            if getattr(self, field) not in known:
                raise ValueError(f"a schedule's {field} is one of {', '.join(known)}, not '{getattr(self, field)}'")
        for share in ("warmup", "cooldown", "freeze"):
            if not 0.0 <= getattr(self, share) <= 1.0:
                raise ValueError(f"{share} is a share of all steps in [0, 1], not {getattr(self, share)}")
        if self.warmup_steps < 0 or (self.warmup_steps and self.warmup):
            raise ValueError("give warmup as a share, or warmup_steps as a number of at least 0, not both")
        used = self.freeze + self.warmup + (self.cooldown if self.name == "trapezoid" else 0.0)
        if used > 1.0 + 1e-9:
            raise ValueError(f"freeze, warmup and cooldown together take {used:.3g} of the steps, more than all")

    def at(self, step: int, steps: int) -> float:
        """The value for `step` (counted from 0) of `steps`; from `steps` on, the last value."""
        frozen = round(self.freeze * steps)
        warmup = self.warmup_steps or round(self.warmup * steps)
        if step < frozen:
            return 0.0
        since = step - frozen
        if since < warmup:
            return self.start + (self.peak - self.start) * (since + 1) / warmup
        return self._course(min(since - warmup, steps), max(1, steps - frozen - warmup), steps)

    def _course(self, since: int, length: int, steps: int) -> float:
        """The value `since` steps into the `length` steps after the warm-up."""
        share = min(1.0, since / length)
        if self.name == "constant" or share == 0.0:
            return self.peak
        if self.name == "linear":
            left = 1.0 - share
        elif self.name == "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * share))
        else:
            cooling = max(1, round(self.cooldown * steps))
            done = min(1.0, max(0.0, since - (length - cooling)) / cooling)
            left = 1.0 - (done if self.cooldown_shape == "linear" else math.sqrt(done))
        return self.end + (self.peak - self.end) * left

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the plan."""
        return asdict(self)


def scaled_lr(base: float, batch: int, rule: ScalingRule) -> float:
    """A learning rate for a global batch.

    "linear": base * batch / 256 (arXiv:1706.02677; MAE, SimCLR). "sqrt": base * sqrt(batch / 1024) (DINOv2,
    arXiv:2304.07193). "none": base.
    """
    if rule == "linear":
        return base * batch / 256
    if rule == "sqrt":
        return base * math.sqrt(batch / 1024)
    if rule == "none":
        return base
    raise ValueError(f"a scaling rule is one of {', '.join(get_args(ScalingRule))}, not '{rule}'")
