"""The log of a training: one JSON line every few steps, without gaps or repeats across resumes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

HISTORY = "history.jsonl"


def read_history(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a history, oldest first; a line that a crash cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class History:
    """Writes `history.jsonl` from the rank that owns it.

    Lines after `resumed_step` belong to steps that will be done again, and are removed.
    """

    def __init__(self, path: Path, resumed_step: int) -> None:
        self.path = path
        kept = [line for line in read_history(path) if line["step"] <= resumed_step]
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(path)
        self._file = path.open("a")
        self._since = time.perf_counter()
        self._images = 0

    def count(self, images: int) -> None:
        """Count images that were trained on since the last line."""
        self._images += images

    def line(self, step: int, **figures: float) -> None:
        """Append a line for `step` finished steps, with the speed since the line before."""
        now = time.perf_counter()
        speed = self._images / max(now - self._since, 1e-9)
        self._file.write(json.dumps({"step": step, **figures, "images_per_s": round(speed, 1)}) + "\n")
        self._file.flush()
        self._since, self._images = now, 0

    def close(self) -> None:
        self._file.close()


@torch.no_grad()
def feature_spread(features: Tensor) -> float:
    """Mean standard deviation of (B, D) features on the unit sphere, times sqrt(D).

    About 1 for directions spread evenly, 0 where all images look the same (arXiv:2011.10566, section 4.1).
    """
    unit = F.normalize(features.detach().float(), dim=1)
    return float(unit.std(dim=0).mean() * features.shape[1] ** 0.5)
