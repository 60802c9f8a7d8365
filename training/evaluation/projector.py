"""The projector of a checkpoint: what stands between the features and the loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from training.backbones.layouts import load_strictly
from training.backbones.sources import HEADS
from training.heads import MLPHead

_PROJECTOR = "projector."


def load_projector(folder: Path, dim: int) -> MLPHead | None:
    """The trained projector of a checkpoint's folder, in evaluation mode: the teacher's where its backbone is the
    exported one. None where the objective has none that takes the pooled features alone, or the heads are not kept.

    dim: width of the pooled features.
    """
    config = json.loads((folder / "config.json").read_text()).get("objective")
    if not isinstance(config, dict) or "projection" not in config or not (folder / HEADS).is_file():
        return None
    heads = load_file(folder / HEADS)
    owners = sorted({name.partition(_PROJECTOR)[0] for name in heads if _PROJECTOR in name})
    of_teacher = [owner for owner in owners if owner]
    wanted = of_teacher if (folder / "student.safetensors").is_file() else owners
    if not wanted:
        return None
    prefix = wanted[0] + _PROJECTOR
    projector = MLPHead(dim, MLPHead.Config.model_validate(config["projection"]))
    load_strictly(projector, {n.removeprefix(prefix): v for n, v in heads.items() if n.startswith(prefix)}, HEADS)
    return projector.eval()


@torch.no_grad()
def projected(projector: MLPHead, features: NDArray[np.float32], batch: int = 1024) -> NDArray[np.float32]:
    """(N, out) of (N, dim) pooled features."""
    return np.concatenate([projector(part).numpy() for part in torch.from_numpy(features).split(batch)])
