"""Schedules: functions of the step, so there is nothing to restore."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, steps: int, warmup: int, peak: float, end: float = 0.0) -> float:
    """Rise linearly over `warmup` steps to `peak`, then fall along half a cosine to `end` at the last step.

    SGDR's cosine without restarts (Loshchilov, Hutter, arXiv:1608.03983) after the warm-up of arXiv:1706.02677.
    step: counted from 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup - 1)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
