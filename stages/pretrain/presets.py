"""What `preset: small` and `backbone: auto` stand for, filled in below what the user gives. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.objectives import catalogue
from training.objectives.parameters import over

_RESNET = "resnet18"
_VIT = "vit_tiny_patch16_224"
_SMALL_RESNET = {"channels": [32, 64, 128, 256]}
_SMALL_VIT = {
    "embed_dim": 96,
    "depth": 3,
    "num_heads": 3,
    "class_token": False,
    "global_pool": "avg",
    "fc_norm": False,
}
_LEAST_PATCH = {False: 4, True: 8}
"""By whether minutes of a CPU shall do: four times as few tokens teach more in the same time."""


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the pretrain stage with the rest of their preset, and with a backbone in the place of auto.

    What is given itself goes before the preset. Mistakes in the objective stay for its own check.
    """
    small = given.get("preset") == "small"
    try:
        objective = catalogue.resolve(given.get("objective", "simclr"), small)
    except (ValueError, TypeError):
        return dict(given)
    params = dict(given)
    if small:
        training = catalogue.describe(objective["name"])["small"]["training"]
        length = ("steps", "epochs") if given.get("steps") or given.get("epochs") else ()
        params = over({key: value for key, value in training.items() if key not in length}, given)
    if params.get("backbone", "auto") == "auto":
        hides = any(catalogue.describe(name)["backbone"] == "vit" for name in catalogue.parts(objective))
        params["backbone"] = _VIT if hides else _RESNET
        options = _vit_options(params.get("image_size", 32), small) if hides else (_SMALL_RESNET if small else {})
        wanted = params.get("backbone_options", {})
        if isinstance(wanted, Mapping):
            params["backbone_options"] = {**options, **wanted}
    return params


def _vit_options(image_size: Any, small: bool) -> dict[str, Any]:
    """Patches of an eighth of the image, of 4 (small: 8) to 16 px, that tile it; if small, few and narrow blocks."""
    if not isinstance(image_size, int) or isinstance(image_size, bool) or image_size < 1:
        return {}
    tiling = [side for side in range(_LEAST_PATCH[small], 17) if image_size % side == 0]
    patch = min(tiling, key=lambda side: (abs(side - image_size / 8), side), default=16)
    return {"patch_size": patch, **(_SMALL_VIT if small else {})}
