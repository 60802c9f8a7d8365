"""The worker of an evaluation: every forward pass of the backbones, a task at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from stages.base import committed
from stages.compute import Task
from stages.evaluate.passes import discovery_pass, features_pass, tokens_pass, views_pass
from stages.evaluate.setting import Arrays, Pictures, Setting, decoded_pictures
from stages.evaluate.shift_passes import invariance_pass, self_learning_pass, shifts_pass, shortcut_pass
from stages.evaluate.tuning_pass import fine_tune_pass
from training.backbones.building import build_backbone
from training.backbones.weights import load_backbone
from training.evaluation.preprocessing import read_preprocessing
from training.evaluation.projector import load_projector

PASSES: Mapping[str, Callable[[Setting, Pictures, Task], Arrays]] = {
    "features": features_pass,
    "views": views_pass,
    "tokens": tokens_pass,
    "discovery": discovery_pass,
    "shifts": shifts_pass,
    "invariance": invariance_pass,
    "shortcut": shortcut_pass,
    "self_learning": self_learning_pass,
    "fine_tune": fine_tune_pass,
}
"""What a task's "kind" may be."""


class PassWorker:
    """Runs passes of the trained backbone and of the same one untrained.

    A task names its kind, the Parquet file of its pictures ("images"), the file to write arrays to ("out"), and what
    its pass needs beside. "decoded" among the arrays is (N,) whether each picture could be decoded; the rows of the
    others are those that could.
    """

    def __init__(self, checkpoint: str, batch: int, threads: int) -> None:
        folder = Path(checkpoint)
        torch.set_num_threads(threads)
        config = json.loads((folder / "config.json").read_text())
        with torch.random.fork_rng(devices=[]):
            backbones = {"trained": load_backbone(folder), "untrained": build_backbone(config)}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        projector = load_projector(folder, backbones["trained"].dim)
        self.setting = Setting(backbones, projector, read_preprocessing(folder), batch, device)

    def __call__(self, task: Task) -> Task:
        rows = pq.read_table(task["images"]).to_pydict()
        pictures = decoded_pictures(rows, self.setting.preprocessing)
        arrays = PASSES[task["kind"]](self.setting, pictures, task) if pictures.ids else {}
        arrays["decoded"] = pictures.all
        with committed(Path(task["out"])) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return {"rows": len(pictures.all)}
