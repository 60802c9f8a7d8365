"""The course of a training as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw_curves(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Loss, learning rate, spread of the features and gradient norm over the steps."""
    figure = Figure(figsize=(6, 7), layout="constrained")
    names = {"loss": "loss", "lr": "learning rate", "feature_std": "feature spread", "grad_norm": "gradient norm"}
    steps = [line["step"] for line in lines]
    axes = figure.subplots(len(names), 1, sharex=True)
    for axis, (name, title) in zip(axes, names.items(), strict=True):
        axis.plot(steps, [line.get(name, math.nan) for line in lines], linewidth=1)
        axis.set_ylabel(title, fontsize=8)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    figure.savefig(path, dpi=100)
