"""Passes over changed pictures: corruptions, crops, transformations, and marks that give the label away."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.compute import Task
from stages.evaluate.setting import Arrays, Pictures, Setting
from training.backbones.interface import Backbone
from training.evaluation.corruptions.catalogue import CORRUPTIONS, corrupt_all
from training.evaluation.linear_probe import linear_probe
from training.evaluation.low_shot import ridge_classifier
from training.evaluation.self_learning import self_learning
from training.evaluation.shifts import INVARIANCES, centre_crop, lower_resolution
from training.evaluation.shortcut import shortcut_test

Pixels = NDArray[np.uint8]


def shift_of(name: str, keys: Sequence[str], seed: int) -> Callable[[Pixels], Pixels]:
    """The change that a name such as "clean", "fog_3", "resolution_16" or "crop_0.8" stands for, on pictures of these
    keys."""
    if name == "clean":
        return _unchanged
    kind, _, value = name.rpartition("_")
    if kind in CORRUPTIONS:
        return partial(corrupt_all, name=kind, severity=int(value), keys=keys, seed=seed)
    if kind == "resolution":
        return partial(lower_resolution, side=int(value))
    return partial(centre_crop, share=float(value))


def _unchanged(pixels: Pixels) -> Pixels:
    return pixels


def shifts_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """Pooled features of the shifted pictures: "trained:fog_3", "untrained:fog_3", ... task: shifts, seed."""
    found: Arrays = {}
    for name in task["shifts"]:
        changed = shift_of(name, pictures.ids, task["seed"])(pictures.squares)
        found |= {f"{contestant}:{name}": setting.features(contestant, changed) for contestant in setting.backbones}
    return found


def invariance_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """(N, V, D) pooled features by transformation: "trained:rotation", ...; "none" is one view, of the plain pictures.

    task: transformations.
    """
    found: Arrays = {}
    for name in task["transformations"]:
        changed = [change(pictures.squares) for change in INVARIANCES.get(name, (_unchanged,))]
        for contestant in setting.backbones:
            views = [setting.features(contestant, pixels) for pixels in changed]
            found[f"{contestant}:{name}"] = np.stack(views, axis=1)
    return found


def shortcut_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """The shortcut test of both backbones, as JSON. task: seed."""
    bank, queries = ~pictures.query, pictures.query
    found = {
        contestant: shortcut_test(
            partial(setting.features, contestant),
            pictures.squares[bank],
            pictures.labels[bank],
            pictures.squares[queries],
            pictures.labels[queries],
            classifier=ridge_classifier,
            seed=task["seed"],
        )
        for contestant in setting.backbones
    }
    return {name: np.array(json.dumps(asdict(shortcut))) for name, shortcut in found.items()}


def self_learning_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """What a linear classifier on the trained backbone gains by adapting to shifted queries, as JSON.

    task: shift, c: regularisation of the classifier, seed. Empty where the backbone has no norm layers to adapt.
    """
    bank, queries = ~pictures.query, pictures.query
    backbone = setting.backbones["trained"].to(setting.device)
    head = _fitted_head(setting.features("trained", pictures.squares[bank]), pictures.labels[bank], task["c"])
    keys = [image_id for image_id, asked in zip(pictures.ids, queries, strict=True) if asked]
    changed = shift_of(task["shift"], keys, task["seed"])(pictures.squares[queries])
    images = torch.from_numpy(setting.preprocessing.normalise(changed)).to(setting.device)
    classifier = _Classifier(backbone, head).to(setting.device)
    try:
        found = self_learning(classifier, images, pictures.labels[queries], batch=setting.batch, seed=task["seed"])
    except ValueError:
        return {}
    figures: dict[str, Any] = {"before": found.before, "after": found.after, "gain": found.gain}
    return {"trained": np.array(json.dumps(figures | {"gain_interval": found.gain_interval}))}


class _Classifier(nn.Module):
    def __init__(self, backbone: Backbone, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).pooled.float())


def _fitted_head(features: NDArray[np.float32], labels: NDArray[np.int64], c: float) -> nn.Linear:
    """Logistic regression on standardised features, written as a layer on the features themselves."""
    weights = torch.from_numpy(linear_probe(features, labels, features[:0], regularisations=(c,)).weights)
    head = nn.Linear(features.shape[1], weights.shape[1])
    with torch.no_grad():
        head.weight.copy_(weights[:-1].T)
        head.bias.copy_(weights[-1])
    return head
