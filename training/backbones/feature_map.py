"""Convnets and hierarchical transformers: the cells of their last feature map stand for patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from training.backbones.interface import Backbone, Tokens
from training.backbones.padding_taps import skip_padding_taps


class FeatureMapBackbone(Backbone):
    """Any timm model that isn't a plain vision transformer. It computes all of an image or nothing of it.

    model: made by `timm.create_model(..., num_classes=0)`; its state dict is what gets exported.
    """

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        skip_padding_taps(model)
        self.dim = int(model.head_hidden_size)
        self.token_dim = int(model.num_features)
        self.patch = int(model.feature_info[-1]["reduction"])
        self.channels = int(getattr(model, "in_chans", 3))

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
        try:
            features, hidden = self._features(images, layers or ())
        except AssertionError as error:
            size = " x ".join(map(str, images.shape[-2:]))
            raise ValueError(
                f"{type(self.model).__name__} does not take images of {size} px: {error} (some models do with "
                "backbone_options.strict_img_size: false)"
            ) from error
        pooled = self.model.forward_head(features, pre_logits=True)
        if features.ndim == 4:
            return map_tokens(features, pooled, hidden, channels_last=features.shape[-1] == self.token_dim)
        prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        has_cls = prefix > 0 and getattr(self.model, "cls_token", None) is not None
        first = int(has_cls)
        return Tokens(
            pooled=pooled,
            patches=features[:, prefix:],
            grid=(images.shape[-2] // self.patch, images.shape[-1] // self.patch),
            cls=features[:, 0] if has_cls else None,
            registers=features[:, first:prefix] if prefix > first else None,
            hidden=hidden,
        )

    def _features(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        if not layers:
            return self.model.forward_features(images), {}
        depth = len(self.model.feature_info)
        wrong = [layer for layer in layers if not -depth <= layer < depth]
        if wrong:
            raise ValueError(f"this backbone has stages 0 to {depth - 1}, not {', '.join(map(str, wrong))}")
        stages = sorted({layer % depth for layer in layers})
        features, maps = self.model.forward_intermediates(images, indices=stages, output_fmt="NCHW")
        found = {stage: value.permute(0, 2, 3, 1) for stage, value in zip(stages, maps, strict=True)}
        return features, {layer: found[layer % depth] for layer in layers}


def refuse_dropping(model: object, *asked: Tensor | None) -> None:
    """Raise ValueError where anything of `asked` needs patch tokens."""
    if any(value is not None for value in asked):
        raise ValueError(
            f"{type(model).__name__} has no patch tokens to drop, mask or move: use a vision transformer, such as a "
            "vit_* backbone"
        )


def map_tokens(features: Tensor, pooled: Tensor, hidden: dict[int, Tensor], channels_last: bool) -> Tokens:
    """Tokens of a (B, C, rows, columns) or (B, rows, columns, C) feature map."""
    cells = features if channels_last else features.permute(0, 2, 3, 1)
    return Tokens(pooled=pooled, patches=cells.flatten(1, 2), grid=(cells.shape[1], cells.shape[2]), hidden=hidden)
