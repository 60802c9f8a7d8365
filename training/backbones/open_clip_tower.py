"""open_clip's vision towers behind the backbone interface, and its text towers, built from their configs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from training.backbones.embedded import Embedded, resampled_positions
from training.backbones.feature_map import map_tokens, refuse_dropping
from training.backbones.interface import Backbone, Tokens
from training.backbones.transformer import TokenBackbone

_SMALL_TEXT = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 8, "context_length": 2}
_SMALL_VISION = {"width": 64, "layers": 1, "image_size": 32, "patch_size": 32}


def build_vision_tower(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The untrained vision tower of an open_clip config; nothing is downloaded.

    options: changes to the config's `vision_cfg`, such as image_size, patch_size, layers or width.
    Raises ValueError where open_clip refuses the name or an option.
    """
    config = _config(name)
    vision = {**config["vision_cfg"], **options, "timm_model_pretrained": False, "output_tokens": False}
    visual = _built(name, options, config, vision, _SMALL_TEXT).visual
    if isinstance(visual, TimmModel) and hasattr(visual.trunk, "set_input_size"):
        visual.set_input_size(vision.get("image_size", visual.image_size))
    return visual


def build_text_tower(name: str) -> nn.Module:
    """The untrained text tower of an open_clip config: (B, context) token ids to (B, dim) in the pictures' space.

    `open_clip.get_tokenizer(name)` makes the ids. Raises ValueError where open_clip refuses the name, or where the
    tower is one of Hugging Face's, whose shape only its hub knows.
    """
    config = _config(name)
    if "hf_model_name" in config["text_cfg"]:
        raise ValueError(f"the text tower of '{name}' is defined by the Hugging Face hub: choose another model")
    return _built(name, {}, config, _SMALL_VISION, config["text_cfg"]).text


def _config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(f"open_clip has no model '{name}'")
    return config


def _built(
    name: str,
    options: Mapping[str, Any],
    config: Mapping[str, Any],
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
) -> Any:
    gelu = bool(config.get("quick_gelu", False))
    try:
        return open_clip.CustomTextCLIP(config["embed_dim"], dict(vision), dict(text), quick_gelu=gelu)
    except (TypeError, AssertionError, RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(f"open_clip cannot build '{name}' with {dict(options)}: {error}") from error


def tower_backbone(visual: Any, wrap: Any) -> Backbone:
    """The backbone of a vision tower. wrap: makes the backbone of a timm model."""
    if isinstance(visual, VisionTransformer):
        return OpenClipViT(visual)
    if isinstance(visual, ModifiedResNet):
        return OpenClipResNet(visual)
    if isinstance(visual, TimmModel):
        return TimmTower(visual, wrap(visual.trunk))
    raise ValueError(f"{type(visual).__name__} is a kind of open_clip tower that is not known here")


class OpenClipViT(TokenBackbone):
    """open_clip's own vision transformer. `Tokens.pooled` is the projected embedding, as the tower returns it.

    model: the visual part of a CLIP model; its state dict is what gets exported.
    """

    has_cls = True
    prefix = 1

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if model.pool_type == "none":
            raise ValueError("this tower does not pool its tokens to one vector: take one with pool_type tok or avg")
        self.dim = int(model.output_dim)
        self.token_dim = int(model.transformer.width)
        self.patch = int(model.patch_size[0])

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.model.transformer.resblocks

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        cells = self.model.conv1(images)
        return cells.flatten(2).transpose(1, 2), (cells.shape[2], cells.shape[3])

    def positions(self, grid: tuple[int, int]) -> Tensor | None:
        own = self.model.positional_embedding[1:].unsqueeze(0)
        return resampled_positions(own, tuple(self.model.grid_size), grid)

    def prefix_tokens(self) -> Tensor | None:
        return (self.model.class_embedding + self.model.positional_embedding[0]).view(1, 1, -1)

    def enter(self, embedded: Embedded) -> Embedded:
        embedded.x = self.model.ln_pre(embedded.x)
        return embedded

    def leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.model.attn_pool is None and not self.model.final_ln_after_pool:
            x = self.model.ln_post(x)
            pooled = x[:, 0] if self.model.pool_type == "tok" else x[:, 1:].mean(dim=1)
        else:
            pooled, _ = self.model._pool(x)
        return x, pooled if self.model.proj is None else pooled @ self.model.proj


class OpenClipResNet(Backbone):
    """CLIP's ResNet with attention pooling; images must be of the size that it was built for."""

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.dim = int(model.output_dim)
        self.token_dim = int(model.attnpool.k_proj.in_features)
        self.patch = 32

    def tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
        position_noise: Tensor | None = None,
        drop_positions: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> Tokens:
        refuse_dropping(self.model, keep, mask, mask_token, position_noise, drop_positions)
        if images.shape[-2:] != (self.model.image_size, self.model.image_size):
            raise ValueError(f"this tower pools images of {self.model.image_size} px, not {tuple(images.shape[-2:])}")
        stages = [self.model.stem, *(getattr(self.model, f"layer{n}") for n in range(1, 5))]
        maps: list[Tensor] = []
        for stage in stages:
            maps.append(stage(maps[-1] if maps else images))
        hidden = {layer: maps[layer].permute(0, 2, 3, 1) for layer in layers or ()}
        return map_tokens(maps[-1], self.model.attnpool(maps[-1]), hidden, channels_last=False)


class TimmTower(Backbone):
    """A timm model as a vision tower: the trunk's tokens, pooled and projected as the tower does.

    model: the whole tower; its state dict is what gets exported.
    """

    model: Any

    def __init__(self, model: Any, trunk: Backbone) -> None:
        super().__init__()
        self.model = model
        # The trunk's modules are the tower's: a second registration would put each weight twice into state dicts.
        object.__setattr__(self, "trunk", trunk)
        self.token_dim, self.patch, self.channels = trunk.token_dim, trunk.patch, trunk.channels
        self.drops_tokens = trunk.drops_tokens
        self.dim = _output_width(model)

    def tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
        position_noise: Tensor | None = None,
        drop_positions: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> Tokens:
        trunk: Any = self.__dict__["trunk"]
        return self._projected(trunk.tokens(images, keep, mask, mask_token, position_noise, drop_positions, layers))

    def tokens_of(
        self,
        groups: Sequence[Tensor],
        keep: Sequence[Tensor | None] | None = None,
        mask: Sequence[Tensor | None] | None = None,
        mask_token: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Tokens]:
        trunk: Any = self.__dict__["trunk"]
        return [self._projected(tokens) for tokens in trunk.tokens_of(groups, keep, mask, mask_token, layers)]

    def _projected(self, tokens: Tokens) -> Tokens:
        classifier = self.model.trunk.get_classifier()
        projected = classifier(tokens.pooled) if self.model.trunk.num_classes else tokens.pooled
        tokens.pooled = self.model.head(projected)
        return tokens


def _output_width(tower: Any) -> int:
    mode = tower.training
    with torch.no_grad():
        width = tower.eval()(torch.zeros(1, 3, *tower.image_size)).shape[-1]
    tower.train(mode)
    return int(width)
