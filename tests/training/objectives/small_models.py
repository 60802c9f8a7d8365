"""A small setting for each objective, that the proofs run on. A new objective adds a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.backbones.building import build_backbone
from training.objectives import catalogue
from training.objectives.base import Objective, create
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe
from training.views import Views, make_views

RESNET = {"name": "resnet18", "kwargs": {"channels": [16, 16, 32, 32]}}
VIT = {"name": "test_vit", "kwargs": {"img_size": 32, "patch_size": 8}}

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "byol": (RESNET, {"projection": {"hidden": 32, "out": 16}}),
    "mae": (VIT, {"decoder": {"dim": 32, "depth": 1, "heads": 2}}),
    "simclr": (RESNET, {"temperature": 0.3, "projection": {"hidden": 32, "out": 16}}),
}

OBJECTIVES = sorted(SETTINGS)


def small_objective(name: str, seed: int = 0) -> Objective:
    backbone, parameters = SETTINGS[name]
    return create({"name": name, **parameters}, build_backbone({"backbone": backbone, "seed": seed}))


def small_plan(name: str, shards: Path, work: Path, **changed: Any) -> PretrainingPlan:
    backbone, parameters = SETTINGS[name]
    values: dict[str, Any] = {
        "shards": str(shards),
        "work": str(work),
        "objective": catalogue.resolve({"name": name, **parameters}),
        "backbone": backbone,
        "image_size": 32,
        "canvas_size": 48,
        "views": catalogue.describe(name)["views"],
        "steps": 8,
        "batch": 16,
        "log_every": 1,
        "checkpoint_every": 1,
        "threads": 1,
        "use_gpu": False,
    }
    work.mkdir(parents=True, exist_ok=True)
    return PretrainingPlan(**{**values, **changed})


def double_views(name: str, rows: np.ndarray) -> Views:
    """Views of made-up canvases for these rows, in float64."""
    generator = torch.Generator().manual_seed(0)
    canvases = torch.randint(0, 256, (64, 3, 48, 48), dtype=torch.uint8, generator=generator)[torch.from_numpy(rows)]
    recipe = ViewRecipe(**catalogue.describe(name)["views"])
    views = make_views(
        canvases,
        np.ones(len(rows)),
        rows,
        recipe,
        size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        seed=1,
        epoch=0,
    )
    views.groups = tuple(crops.double() for crops in views.groups)
    return views
