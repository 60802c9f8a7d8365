"""Maps of local features: patch tokens, or a feature map fine enough to stand in for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.backbones.feature_map import FeatureMapBackbone
from training.backbones.interface import Backbone
from training.decoding import Canvas
from training.evaluation.correspondence import Correspondence, correspondence, crop_points
from training.evaluation.preprocessing import Preprocessing
from training.evaluation.views import evaluation_views

SMALLEST_GRID = 4
"""Rows and columns below which a map shows nothing of where things are."""


@torch.no_grad()
def dense_features(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor] | None:
    """(B, rows, columns, D) local features, and (B, rows, columns) their lengths before the last norm, both float32.

    Patch tokens after the last norm; of a feature-map model the last stage of at least 4 x 4 cells. None where a
    backbone has neither. images: (B, channels, H, W), normalised.
    """
    if isinstance(backbone, FeatureMapBackbone):
        if not hasattr(backbone.model, "forward_intermediates"):
            return None
        stages = backbone.tokens(images, layers=range(len(backbone.model.feature_info))).hidden
        fine = [values.float() for values in stages.values() if min(values.shape[1:3]) >= SMALLEST_GRID]
        return (fine[-1], fine[-1].norm(dim=3)) if fine else None
    found = backbone.tokens(images, layers=[-1] if backbone.drops_tokens else None)
    if min(found.grid) < SMALLEST_GRID:
        return None
    patches = found.patches.float().unflatten(1, found.grid)
    before = found.hidden[-1][:, found.prefix :].float() if found.hidden else found.patches.float()
    return patches, before.norm(dim=2).unflatten(1, found.grid)


def crop_correspondence(
    backbone: Backbone,
    canvases: Sequence[Canvas],
    keys: Sequence[str],
    preprocessing: Preprocessing,
    *,
    batch: int,
    seed: int = 0,
    device: str = "cpu",
) -> Correspondence | None:
    """Do local features find the same point again in another crop of the picture, in other colours?

    Two crops of each picture by `training.evaluation.views.RECIPE`, not mirrored; the truth is where the crops lie,
    so no label is needed. None where the backbone has no local features, or no two crops overlap.
    """
    backbone = backbone.to(device).eval()
    sources, targets, points = [], [], []
    for made in evaluation_views(canvases, keys, preprocessing, views=2, batch=batch, seed=seed, flip=0.0):
        found = dense_features(backbone, made.crops.to(device))
        if found is None:
            return None
        first, second = found[0].cpu().numpy().reshape(2, len(made.rows), *found[0].shape[1:])
        grid = (first.shape[1], first.shape[2])
        sources += list(first)
        targets += list(second)
        points += [
            crop_points(tuple(here), tuple(there), grid) for here, there in zip(*made.boxes.tolist(), strict=True)
        ]
    if not any(len(here) for here, _ in points):
        return None
    return correspondence(sources, targets, points, seed=seed)
