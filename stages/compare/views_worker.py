"""The worker that shows the same views of images to two models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.base import committed
from stages.compute import Task

_BATCH = 128


class TwoModelViews:
    """Features of views of pictures by two checkpoints that share a preprocessing.

    recipe: of the views; rounds: how often its crops are drawn. canvas: side of the pictures that they are cut from.
    A task names the Parquet file of its pictures ("images": image_id, bytes, orientation) and the file to write arrays
    to ("out"): "first" and "second", (n, V, dim) of the pictures that could be decoded, and "decoded", (N,) which.
    """

    def __init__(self, first: str, second: str, recipe: dict[str, Any], rounds: int, canvas: int) -> None:
        # Heavy libraries are loaded here, so that the process that hands out tasks can do without them.
        import torch

        from training.backbones.weights import load_backbone
        from training.evaluation.preprocessing import read_preprocessing

        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            self.backbones = {
                name: load_backbone(Path(folder)).to(memory_format=torch.channels_last)
                for name, folder in (("first", first), ("second", second))
            }
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.preprocessing = read_preprocessing(Path(first))
        self.crops = recipe["crops"]
        # further, smaller crops are no part of the score
        self.changes = {name: value for name, value in recipe.items() if name not in ("crops", "local_crops")}
        self.rounds, self.canvas = rounds, canvas

    def __call__(self, task: Task) -> Task:
        import numpy as np
        import pyarrow.parquet as pq

        from training.decoding import UndecodableError, canvas
        from training.evaluation.views import view_features

        rows = pq.read_table(task["images"]).to_pydict()
        canvases, ids, decoded = [], [], np.zeros(len(rows["image_id"]), bool)
        for n, (image_id, data, orientation) in enumerate(zip(*rows.values(), strict=True)):
            try:
                canvases.append(canvas(data, orientation, self.canvas, self.preprocessing.background))
            except UndecodableError:
                continue
            ids.append(image_id)
            decoded[n] = True
        parts = [
            view_features(
                self.backbones, canvases, ids, self.preprocessing, views=self.crops, batch=_BATCH, seed=seed,
                device=self.device, **self.changes,
            )
            for seed in range(self.rounds)
        ]  # fmt: skip
        features = {name: np.concatenate([part[name] for part in parts], axis=1) for name in self.backbones}
        with committed(Path(task["out"])) as temporary, temporary.open("wb") as file:
            np.savez(file, decoded=decoded, first=features["first"], second=features["second"])
        return {"rows": len(decoded)}
