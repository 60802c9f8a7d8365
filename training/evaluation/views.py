"""Features of augmented views of images, for the measures that ask what a backbone makes of the same picture twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.preprocessing import Preprocessing
from training.recipes import ViewRecipe
from training.views import Views, make_views

if TYPE_CHECKING:
    from training.backbones.interface import Backbone
    from training.decoding import Canvas

RECIPE: dict[str, Any] = {
    "scale_min": 0.2,
    "scale_max": 1.0,
    "flip": 0.5,
    "jitter": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grey": 0.2,
    "blur": 0.0,
}
"""MoCo v2's crops and colours (arXiv:2003.04297) without its blur. The same for every model, whatever it was trained
with, so that the figures of two models compare."""


def evaluation_views(
    canvases: Sequence[Canvas],
    keys: Sequence[str],
    preprocessing: Preprocessing,
    *,
    views: int,
    batch: int,
    seed: int = 0,
    **changes: Any,
) -> Iterator[Views]:
    """Views of each picture by `RECIPE`, batch after batch of at most `batch` crops.

    keys: of the pictures, such as their ids: a picture's views are a function of its key and the seed, whatever is in
    the batch with it. changes: to the recipe.
    """
    rows = np.array([int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") for key in keys], np.int64)
    recipe, at_once = ViewRecipe(crops=views, **RECIPE | changes), max(1, batch // views)
    for start in range(0, len(canvases), at_once):
        part = canvases[start : start + at_once]
        yield make_views(
            torch.from_numpy(np.stack([canvas.pixels for canvas in part])),
            np.array([canvas.aspect for canvas in part]),
            rows[start : start + at_once],
            recipe,
            size=preprocessing.size,
            mean=preprocessing.mean,
            std=preprocessing.std,
            seed=seed,
            epoch=0,
        )


def view_features(
    backbones: Mapping[str, Backbone],
    canvases: Sequence[Canvas],
    keys: Sequence[str],
    preprocessing: Preprocessing,
    *,
    views: int,
    batch: int,
    seed: int = 0,
    device: str = "cpu",
    **changes: Any,
) -> dict[str, NDArray[np.float32]]:
    """(N, V, dim) pooled features of V views of each picture (`evaluation_views`), the same for all backbones.

    changes: to `RECIPE`.
    """
    backbones = {name: backbone.to(device).eval() for name, backbone in backbones.items()}
    found = {name: [np.zeros((0, views, backbone.dim), np.float32)] for name, backbone in backbones.items()}
    with torch.inference_mode():
        for made in evaluation_views(canvases, keys, preprocessing, views=views, batch=batch, seed=seed, **changes):
            crops = made.crops.to(device)
            for name, backbone in backbones.items():
                pooled = backbone(crops).pooled.float().cpu().numpy()
                found[name].append(pooled.reshape(views, len(made.rows), -1).swapaxes(0, 1))
    return {name: np.concatenate(parts) for name, parts in found.items()}
