"""A look at the features while they are learned, on a few samples of the shards."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from training.backbones.interface import Backbone
from training.decoding import WHITE, UndecodableError, canvas
from training.evaluation.knn import knn_predictions
from training.evaluation.rank import rankme
from training.plan import PretrainingPlan
from training.precision import Precision
from training.preprocessing import MEAN, STD
from training.process_group import rank, world
from training.shards import ShardReader

_BATCH = 64
_NEIGHBOURS = 20


class FeatureLook:
    """Whole pictures of up to `evaluate_rows` rows, evenly spread over the shards; each rank holds its share.

    They are training samples, so the figures compare moments of one training, not models.
    """

    def __init__(self, reader: ShardReader, plan: PretrainingPlan) -> None:
        count = min(len(reader), plan.evaluate_rows)
        rows = np.linspace(0, len(reader) - 1, count).astype(np.int64)[rank() :: world()].tolist()
        self.rows: list[int] = []
        pictures = []
        for row in rows:
            try:
                pictures.append(canvas(*reader.encoded(row), plan.image_size, WHITE).pixels)
            except UndecodableError:
                continue
            self.rows.append(row)
        self.pixels = torch.from_numpy(np.stack(pictures)) if pictures else torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
        self.labels = [reader.sample(row)["label"] for row in self.rows]

    def figures(self, backbone: Backbone, whole: nn.Module, precision: Precision) -> dict[str, float]:
        """rankme of the pooled features (`training.evaluation.rank`), knn where there are labels, and look_seconds,
        what the look took.

        knn: accuracy of the 20 nearest among every other sample for the samples between them. Call on every rank.
        whole: the module that `fully_shard` was called on, if it was. The modules are left as they were.
        """
        began = time.perf_counter()
        parts: list[tuple[list[int], np.ndarray, list[str | None]] | None] = [None] * world()
        mine = (self.rows, self._features(backbone, whole, precision), self.labels)
        if world() > 1:
            dist.all_gather_object(parts, mine)
        else:
            parts = [mine]
        seen = sorted(
            ((row, i, j) for j, part in enumerate(parts) if part for i, row in enumerate(part[0])), key=lambda e: e[0]
        )
        if len(seen) < 2:
            return {}
        features = np.stack([parts[j][1][i] for _, i, j in seen])  # type: ignore[index]
        labels = [parts[j][2][i] for _, i, j in seen]  # type: ignore[index]
        found = {"rankme": rankme(features), **_accuracy(features, labels)}
        return found | {"look_seconds": time.perf_counter() - began}

    @torch.no_grad()
    def _features(self, backbone: Backbone, whole: nn.Module, precision: Precision) -> np.ndarray:
        device = next(backbone.parameters()).device
        shift, scale = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
        was_training = backbone.training
        backbone.eval()
        if isinstance(whole, FSDPModule):
            whole.unshard()  # what is outside of the blocks; these gather themselves
        try:
            found = []
            for pixels in self.pixels.split(_BATCH):
                with precision.autocast():
                    images = (pixels.to(device).float() / 255 - shift) / scale
                    found.append(backbone(images).pooled.float().cpu().numpy())
        finally:
            if isinstance(whole, FSDPModule):
                whole.reshard()
            backbone.train(was_training)
        return np.concatenate(found) if found else np.zeros((0, backbone.dim), np.float32)


def _accuracy(features: np.ndarray, labels: list[str | None]) -> dict[str, float]:
    known = np.array([label is not None for label in labels])
    classes, numbers = np.unique([label or "" for label in labels], return_inverse=True)
    bank, queries = known.copy(), known.copy()
    bank[1::2] = False
    queries[0::2] = False
    if len(classes) < 2 or not bank.any() or not queries.any():
        return {}
    guesses = knn_predictions(features[bank], numbers[bank], features[queries], [_NEIGHBOURS])[_NEIGHBOURS]
    return {"knn": float((guesses == numbers[queries]).mean())}
