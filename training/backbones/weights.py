"""Backbones' weights to and from files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.backbones.building import build_backbone
from training.backbones.interface import Backbone
from training.backbones.layouts import adapted, load_strictly
from training.backbones.sources import BACKBONE, HEADS, weights_path
from training.backbones.transformer import TokenBackbone

_CONTAINERS = (
    "teacher",
    "model_ema",
    "ema",
    "target_encoder",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "backbone",
    "encoder",
)
_BOOSTS = "boosts."
_STUDENT = "student.safetensors"


def save_weights(backbone: Backbone, path: Path) -> None:
    """Write the library's own state dict as safetensors: what timm or open_clip alone can load.

    Token boosting is not in it. Its tensors belong to the heads, and the model loads and runs without them.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in backbone.model.state_dict().items()}
    save_file(state, path)


def load_weights(backbone: Backbone, path: Path) -> None:
    """Load what `save_weights` wrote. Raises ValueError where a tensor is missing, extra or misshapen."""
    load_strictly(backbone.model, read_state(path), path.name)


def load_backbone(folder: Path) -> Backbone:
    """The trained backbone of a checkpoint's folder, token boosting included, in evaluation mode."""
    backbone = build_backbone(json.loads((folder / "config.json").read_text()))
    load_weights(backbone, folder / BACKBONE)
    _load_boosts(backbone, folder / HEADS)
    return backbone.eval()


def initialise(backbone: Backbone, source: str) -> None:
    """Start a backbone from weights of any form that `weights_path` knows, adapted to its shapes.

    Raises ValueError where they cannot be read or do not fit: nothing is left at its random start unsaid.
    """
    path = weights_path(source)
    file = path / BACKBONE if path.is_dir() else path
    load_strictly(backbone.model, adapted(read_state(file), backbone.model), str(source))
    if path.is_dir() and (path / HEADS).is_file():
        _load_boosts(backbone, path / HEADS)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch state dict, by name; wrappers around it are taken off.

    Only tensors and plain values are unpickled. Raises ValueError where the file is neither.
    """
    try:
        loaded: Any = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path.name} is neither safetensors nor a torch state dict of plain tensors: {reason}"
        ) from error
    return _tensors(loaded, path)


def _unpickled(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping):
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        inner = next((loaded[name] for name in _CONTAINERS if isinstance(loaded.get(name), Mapping)), None)
        if tensors and (inner is None or len(tensors) > 1):
            return tensors
        loaded = inner
    raise ValueError(f"{path.name} holds no state dict; known wrappers are: {', '.join(_CONTAINERS)}")


def _load_boosts(backbone: Backbone, heads: Path) -> None:
    """Token boosting of the exported backbone: the teacher's where the student went to a file of its own."""
    if not isinstance(backbone, TokenBackbone) or backbone.boosts is None:
        return
    state = load_file(heads)
    owners = sorted({name.partition(_BOOSTS)[0] for name in state if _BOOSTS in name})
    of_teacher = [owner for owner in owners if owner != "backbone."]
    wanted = of_teacher if (heads.parent / _STUDENT).is_file() else owners
    if wanted:
        prefix = wanted[0] + _BOOSTS
        mine = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        load_strictly(backbone.boosts, mine, heads.name)
