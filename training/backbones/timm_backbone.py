"""timm's vision transformers and convnets behind the backbone interface, and their way to and from files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import get_pretrained_cfg
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from training.backbones.interface import Backbone, Tokens


class TimmBackbone(Backbone):
    """Any timm model. Dropping and masking of patches works on plain vision transformers.

    model: made by `timm.create_model(..., num_classes=0)`; its state dict is what gets exported.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.dim = int(self.model.head_hidden_size)
        self.token_dim = int(self.model.num_features)
        self.patch = int(self.model.feature_info[-1]["reduction"])
        self.is_vit = type(self.model).forward_features is VisionTransformer.forward_features

    def tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tokens:
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        if self.is_vit:
            features = self._vit_features(images, keep, mask, mask_token)
        elif keep is not None or mask is not None:
            raise ValueError(f"{type(self.model).__name__} has no patch tokens to drop or mask: use a vit_* backbone")
        else:
            features = self.model.forward_features(images)
        pooled = self.model.forward_head(features, pre_logits=True)
        if features.ndim == 4:
            return _map_tokens(features, pooled, channels_last=features.shape[-1] == self.token_dim)
        return self._split(features, pooled, grid)

    def _vit_features(
        self, images: Tensor, keep: Tensor | None, mask: Tensor | None, mask_token: Tensor | None
    ) -> Tensor:
        vit = self.model
        x = vit.patch_embed(images)
        if mask is not None:
            if mask_token is None:
                raise ValueError("a mask needs the token that stands in for masked patches")
            x = torch.where(mask.view(*x.shape[:-1], 1), mask_token.to(x.dtype), x)
        x = vit._pos_embed(x)
        if keep is not None:
            prefix = x[:, : vit.num_prefix_tokens]
            kept = x[:, vit.num_prefix_tokens :].gather(1, keep.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            x = torch.cat([prefix, kept], dim=1)
        x = vit.norm_pre(vit.patch_drop(x))
        return vit.norm(vit.blocks(x))

    def _split(self, features: Tensor, pooled: Tensor, grid: tuple[int, int]) -> Tokens:
        prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        has_cls = prefix > 0 and getattr(self.model, "cls_token", None) is not None
        first = int(has_cls)
        return Tokens(
            pooled=pooled,
            patches=features[:, prefix:],
            grid=grid,
            cls=features[:, 0] if has_cls else None,
            registers=features[:, first:prefix] if prefix > first else None,
        )


def _map_tokens(features: Tensor, pooled: Tensor, channels_last: bool) -> Tokens:
    cells = features if channels_last else features.permute(0, 2, 3, 1)
    return Tokens(pooled=pooled, patches=cells.flatten(1, 2), grid=(cells.shape[1], cells.shape[2]))


def timm_arguments(name: str, options: Mapping[str, Any], image_size: int) -> dict[str, Any]:
    """Arguments for `timm.create_model` that rebuild the backbone: the user's, and `img_size` where it is needed."""
    config = get_pretrained_cfg(name)
    fixed = config is not None and bool(config.fixed_input_size)
    return {**({"img_size": image_size} if fixed else {}), **options}


def build_backbone(config: Mapping[str, Any]) -> TimmBackbone:
    """The untrained backbone of a training: the same bits wherever it is built from the same config.

    config: {"backbone": {"name": timm name, "kwargs": {...}}, "seed": ...}, as in a checkpoint's `config.json`.
    Raises ValueError where timm refuses the name or an argument.
    """
    name, kwargs = config["backbone"]["name"], config["backbone"]["kwargs"]
    torch.manual_seed(config["seed"])
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **kwargs)
    except (TypeError, AssertionError, RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(f"timm cannot build '{name}' with {dict(kwargs)}: {error}") from error
    return TimmBackbone(model)


def load_backbone(folder: Path) -> TimmBackbone:
    """The trained backbone of a checkpoint folder (`config.json` and `backbone.safetensors`), in evaluation mode."""
    backbone = build_backbone(json.loads((folder / "config.json").read_text()))
    load_weights(backbone, folder / "backbone.safetensors")
    return backbone.eval()


def save_weights(backbone: TimmBackbone, path: Path) -> None:
    """Write the plain timm state dict as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in backbone.model.state_dict().items()}
    save_file(state, path)


def load_weights(backbone: TimmBackbone, path: Path) -> None:
    """Load a timm state dict from safetensors. Raises ValueError where a tensor is missing, extra or misshapen."""
    state = load_file(path)
    classifier = f"{backbone.model.default_cfg.get('classifier') or 'fc'}."
    state = {name: value for name, value in state.items() if not name.startswith(classifier)}
    try:
        backbone.model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path.name} does not fit {type(backbone.model).__name__}: {error}") from error
