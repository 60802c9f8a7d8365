"""A small checkpoint, and the tables that an evaluation of it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from stages.artifact import Artifact
from tests.stages.pool import emoji_bytes, table_artifact, write_images_artifact, write_table_artifact

CONFIG: dict[str, Any] = {
    "backbone": {"name": "test_resnet", "kwargs": {}},
    "image_size": 32,
    "dim": 96,
    "objective": {"name": "simclr", "temperature": 0.1},
    "steps": 10,
    "seed": 3,
}
PREPROCESSING: dict[str, Any] = {
    "size": 32,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bicubic",
    "background": [255, 255, 255],
}


def backbone_of(seed: int) -> torch.nn.Module:
    """The backbone of `CONFIG`, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", pretrained=False, num_classes=0)


def write_checkpoint(path: Path, *, seed: int = 11, config: Mapping[str, Any] | None = None) -> Artifact:
    """A checkpoint artifact; `seed` stands for training: weights other than the untrained ones of `CONFIG`."""
    path.mkdir(parents=True)
    save_file(backbone_of(seed).state_dict(), path / "backbone.safetensors")
    (path / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    (path / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    return table_artifact("checkpoint", path)


def write_pool(path: Path, count: int = 240, *, labelled: bool = True) -> tuple[Artifact, Artifact]:
    """Images and a selection of OpenMoji drawings: every fourth labelled one is held out, every ninth dropped."""
    items = [(name, label if labelled else None, data) for name, label, data in emoji_bytes(count)]
    images = write_images_artifact(path / "images", items)
    table = images.table(["image_id", "label"])
    rows = []
    for index, (image_id, label) in enumerate(zip(*(table[c].to_pylist() for c in table.column_names), strict=True)):
        role = "dropped" if index % 9 == 8 else "holdout" if label and index % 4 == 3 else "train"
        reason = {"dropped": "over_quota", "holdout": "holdout", "train": "balanced"}[role]
        rows.append({"image_id": image_id, "role": role, "reason": reason, "group_id": image_id})
    return images, write_table_artifact("selection", path / "selection", rows)


def with_manifest(artifact: Artifact, **manifest: Any) -> Artifact:
    """The artifact with a manifest, in its folder too."""
    (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    return replace(artifact, manifest=manifest)
