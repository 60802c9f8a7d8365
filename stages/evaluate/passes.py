"""Passes of the backbones over unchanged pictures: features, views, local features."""

from __future__ import annotations

import json

import numpy as np
import torch
from numpy.typing import NDArray

from stages.compute import Task
from stages.evaluate.setting import Arrays, Pictures, Setting
from training.backbones.interface import Backbone
from training.backbones.transformer import TokenBackbone
from training.evaluation.attention import attention_distance, attention_maps, attention_weights
from training.evaluation.cost import measured
from training.evaluation.dense import crop_correspondence, dense_features
from training.evaluation.discovery import lost
from training.evaluation.features import layer_features, layer_numbers
from training.evaluation.projector import projected
from training.evaluation.views import view_features

SHOWN = 16
"""Pictures whose local features are kept for a person to look at."""


def features_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """Pooled features of both backbones, raw colours, and what the trained one has in the layers asked for and
    behind its projector.

    task: layers: how many; patches: whether patch tokens are wanted too; pixel_side: of the colours. "cost" is
    seconds, CPU-seconds and memory of the trained backbone's pass.
    """
    trained = setting.backbones["trained"]
    with measured(len(pictures.ids), setting.device) as cost:
        found = layer_features(
            trained,
            pictures.squares,
            setting.preprocessing,
            layers=layer_numbers(trained, task["layers"]) if task["layers"] else (),
            batch=setting.batch,
            device=setting.device,
            patches=task["patches"],
        )
    found["trained"] = found.pop("pooled")
    if task["layers"] and setting.projector is not None:
        found["projector/pooled"] = projected(setting.projector, found["trained"])
    found["untrained"] = setting.features("untrained", pictures.squares)
    assert pictures.colours is not None
    found["pixels"] = pictures.colours.reshape(len(pictures.ids), -1)
    found["cost"] = np.array([[cost.seconds, cost.cpu_seconds, cost.memory]])
    return found


def views_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """(N, V, D) features of augmented views by both backbones. task: views, seed."""
    return view_features(
        setting.backbones,
        pictures.canvases(setting.preprocessing),
        pictures.ids,
        setting.preprocessing,
        views=task["views"],
        batch=setting.batch,
        seed=task["seed"],
        device=setting.device,
    )


def tokens_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:
    """Local features of the first `SHOWN` pictures, their lengths in all, attention, and correspondence of crops.

    Empty where the backbone has no local features. "pck_trained" and "pck_untrained" are JSON. task: seed.
    """
    canvases, found = pictures.canvases(setting.preprocessing), Arrays()
    for name, backbone in setting.backbones.items():
        local = _local(setting, backbone, pictures)
        if local is None:
            return {}
        patches, found[f"{name}_norms"] = local
        found[f"{name}_patches"] = patches[:SHOWN]
        pairs = crop_correspondence(
            backbone,
            canvases,
            pictures.ids,
            setting.preprocessing,
            batch=setting.batch,
            seed=task["seed"],
            device=setting.device,
        )
        if pairs is not None:
            figures = [(alpha, share, *pairs.intervals[alpha]) for alpha, share in pairs.pck.items()]
            found[f"{name}_pck"] = np.array(json.dumps(figures))
    found["pixels"] = pictures.squares[:SHOWN]
    return found | _attention(setting, pictures)


def discovery_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:  # noqa: ARG001
    """(n, 4) LOST's box of each picture by both backbones; empty where they have no local features."""
    found = Arrays()
    for name, backbone in setting.backbones.items():
        local = _local(setting, backbone, pictures)
        if local is None:
            return {}
        found[name] = np.array([lost(patches).box for patches in local[0]])
    return found


def segmentation_pass(setting: Setting, pictures: Pictures, task: Task) -> Arrays:  # noqa: ARG001
    """(n, rows, columns, D) float16 local features by both backbones, and the pixels; empty where they have none."""
    found = Arrays()
    for name, backbone in setting.backbones.items():
        local = _local(setting, backbone, pictures)
        if local is None:
            return {}
        largest = np.finfo(np.float16).max
        found[name] = np.clip(local[0], -largest, largest).astype(np.float16)
    return found | {"pixels": pictures.squares}


def _local(
    setting: Setting, backbone: Backbone, pictures: Pictures
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """`dense_features` of all pictures, or None where the backbone has none."""
    backbone = backbone.to(setting.device).eval()
    parts = []
    for start in range(0, len(pictures.ids), setting.batch):
        pixels = setting.preprocessing.normalise(pictures.squares[start : start + setting.batch])
        local = dense_features(backbone, torch.from_numpy(pixels).to(setting.device))
        if local is None:
            return None
        parts.append([values.cpu().numpy() for values in local])
    patches, norms = (np.concatenate(values) for values in zip(*parts, strict=True))
    return patches, norms


def _attention(setting: Setting, pictures: Pictures) -> Arrays:
    """Maps (n, heads, rows, columns) of the last block, and (heads,) the distances; nothing where none can be seen."""
    backbone = setting.backbones["trained"]
    if not isinstance(backbone, TokenBackbone):
        return {}
    images = torch.from_numpy(setting.preprocessing.normalise(pictures.squares[:SHOWN])).to(setting.device)
    try:
        weights = attention_weights(backbone, images)
    except ValueError:
        return {}  # of a library that computes its attention by functions of its own
    with torch.inference_mode():
        grid = backbone.tokens(images[:1]).grid
    maps = attention_maps(weights, backbone.prefix, grid, from_cls=backbone.has_cls)
    return {
        "attention": maps.astype(np.float32),
        "attention_distance": attention_distance(weights, backbone.prefix, grid),
    }
