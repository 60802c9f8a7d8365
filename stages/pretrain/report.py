"""Pictures of a training: its curves, and the views that its objective sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from training.decoding import WHITE, Canvas, UndecodableError, canvas
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe
from training.shards import ShardReader
from training.views import make_views

_SHOWN = 8
_EPOCHS = 3
_CELL = 64
_GAP = 4


def draw_views(path: Path, reader: ShardReader, plan: PretrainingPlan) -> None:
    """One line a sample: the picture (squeezed to a square), then its crops of the first epochs."""
    rows, canvases = _first_decodable(reader, plan.canvas_size)
    if not rows:
        return
    pixels = torch.from_numpy(np.stack([c.pixels for c in canvases]))
    columns = [pixels]
    for epoch in range(_EPOCHS):
        views = make_views(
            pixels,
            np.array([c.aspect for c in canvases]),
            np.array(rows),
            ViewRecipe(**plan.views),
            size=plan.image_size,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            seed=plan.seed,
            epoch=epoch,
        )
        columns += [(view * 255).round().to(torch.uint8) for group in views.groups for view in group.split(len(rows))]
    sheet = Image.new("RGB", (len(columns) * (_CELL + _GAP), len(rows) * (_CELL + _GAP)), WHITE)
    for x, column in enumerate(columns):
        for y, picture in enumerate(column):
            tile = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
            sheet.paste(tile.resize((_CELL, _CELL)), (x * (_CELL + _GAP), y * (_CELL + _GAP)))
    sheet.save(path)


def _first_decodable(reader: ShardReader, size: int) -> tuple[list[int], list[Canvas]]:
    rows: list[int] = []
    canvases: list[Canvas] = []
    for row in range(min(len(reader), 4 * _SHOWN)):
        try:
            canvases.append(canvas(*reader.encoded(row), size))
            rows.append(row)
        except UndecodableError:
            continue
        if len(rows) == _SHOWN:
            break
    return rows, canvases


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
