"""From a backbone's config to an untrained backbone: the same bits wherever it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg

from training.backbones.feature_map import FeatureMapBackbone
from training.backbones.first_weights import LIBRARY, set_first_weights
from training.backbones.interface import Backbone
from training.backbones.names import OPEN_CLIP, family, is_vit
from training.backbones.open_clip_tower import build_vision_tower, tower_backbone
from training.backbones.timm_vit import TimmViT, is_timm_vit
from training.backbones.token_boost import NAME, TokenBoosts, default_places
from training.backbones.transformer import TokenBackbone

_BOOST_SEED = 0x7B
_FIRST = "first_weights"


def backbone_config(
    name: str, options: Mapping[str, Any], image_size: int, first_weights: str = LIBRARY
) -> dict[str, Any]:
    """What `build_backbone` needs, as plain values: {"name", "kwargs"}, "token_boost" where that is asked for, and
    "first_weights" where a vision transformer starts otherwise than its library has it.

    kwargs: arguments that rebuild the model in its own library alone: the user's, and the image size where the
    library must be told. options: the user's; `reg_tokens` (registers) means the same for every timm transformer, and
    `token_boost` (true, or numbers of blocks) and `token_boost_weight` belong to curatrain. first_weights: a name of
    `set_first_weights`.
    """
    kwargs = {key: value for key, value in options.items() if key not in (NAME, f"{NAME}_weight")}
    config: dict[str, Any] = {"name": name, "kwargs": kwargs}
    if name.startswith(OPEN_CLIP):
        config["kwargs"] = {"image_size": image_size, **kwargs}
    else:
        if family(name) == "eva" and "reg_tokens" in kwargs:
            kwargs["num_reg_tokens"] = kwargs.pop("reg_tokens")
        known = get_pretrained_cfg(name)
        if known is not None and known.fixed_input_size:
            config["kwargs"] = {"img_size": image_size, **kwargs}
    places = options.get(NAME, False)
    if places is not False:
        config[NAME] = {"places": places, "weight": float(options.get(f"{NAME}_weight", 1.0))}
    if first_weights != LIBRARY and is_vit(name):
        config[_FIRST] = first_weights
    return config


def build_backbone(config: Mapping[str, Any]) -> Backbone:
    """The untrained backbone of a training.

    config: {"backbone": from `backbone_config`, "seed": ...}, as in a checkpoint's `config.json`.
    Raises ValueError where the library refuses the name or an argument, or where there are no such first weights.
    """
    given = config["backbone"]
    torch.manual_seed(config["seed"])
    backbone = _built(given["name"], given["kwargs"])
    set_first_weights(backbone, given.get(_FIRST, LIBRARY), config["seed"])
    if given.get(NAME):
        _boost(backbone, given[NAME], config["seed"])
    return backbone


def _built(name: str, kwargs: Mapping[str, Any]) -> Backbone:
    if name.startswith(OPEN_CLIP):
        return tower_backbone(build_vision_tower(name.removeprefix(OPEN_CLIP), kwargs), timm_backbone)
    # Rotations of an Eva that is told so are computed for each image size; no tensor differs.
    dynamic = {"dynamic_img_size": True} if family(name) == "eva" else {}
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **{**dynamic, **kwargs})
    except (TypeError, AssertionError, RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(f"timm cannot build '{name}' with {dict(kwargs)}: {error}") from error
    return timm_backbone(model)


def timm_backbone(model: Any) -> Backbone:
    """A timm model behind the interface that suits it."""
    return TimmViT(model) if is_timm_vit(model) else FeatureMapBackbone(model)


def _boost(backbone: Backbone, wanted: Mapping[str, Any], seed: int) -> None:
    """Add token boosting. Its weights have a seed of their own, so that the model's don't depend on it."""
    if not isinstance(backbone, TokenBackbone):
        raise ValueError(f"{NAME} needs a vision transformer of timm or open_clip, such as a vit_* backbone")
    depth, places = len(backbone.blocks), wanted["places"]
    chosen = default_places(depth) if places is True else tuple(places if isinstance(places, list) else [places])
    if not all(isinstance(place, int) and 0 <= place < depth for place in chosen) or len(set(chosen)) < len(chosen):
        raise ValueError(f"{NAME}: true, or different numbers of blocks from 0 to {depth - 1}, not {places!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed ^ _BOOST_SEED)
        backbone.boosts = TokenBoosts(chosen, backbone.token_dim, wanted["weight"])
