"""timm's vision transformers, with learned or rotary positions, behind the backbone interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, cat, nn

from training.backbones.embedded import Embedded, resampled_positions
from training.backbones.transformer import TokenBackbone


def is_timm_vit(model: nn.Module) -> bool:
    """Whether a timm model runs as VisionTransformer or Eva do."""
    return type(model).forward_features in (VisionTransformer.forward_features, Eva.forward_features)  # type: ignore[attr-defined]


class TimmViT(TokenBackbone):
    """A vision transformer of timm: plain, distilled, or Eva's with rotary positions.

    model: made by `timm.create_model(..., num_classes=0)`; its state dict is what gets exported. Images of every size
    that the patches tile are taken: positions are resampled on the way.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.dim = int(model.head_hidden_size)
        self.token_dim = int(model.embed_dim)
        self.patch = int(model.feature_info[-1]["reduction"])
        self.channels = int(model.in_chans)
        self.has_cls = model.cls_token is not None
        self.prefix = int(model.num_prefix_tokens)
        if getattr(model, "patch_drop", None) is not None and not isinstance(model.patch_drop, nn.Identity):
            raise ValueError("patch_drop_rate: objectives choose which patches they drop; leave it out")

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.model.blocks

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return embedded_patches(self.model.patch_embed, images)

    def positions(self, grid: tuple[int, int]) -> Tensor | None:
        if self.model.pos_embed is None:
            return None
        own = self.model.pos_embed if self.model.no_embed_class else self.model.pos_embed[:, self.prefix :]
        return resampled_positions(own, tuple(self.model.patch_embed.grid_size), grid)

    def prefix_tokens(self) -> Tensor | None:
        vit = self.model
        second = vit.dist_token if isinstance(vit, VisionTransformerDistilled) else vit.reg_token
        parts = [token for token in (vit.cls_token, second) if token is not None]
        if not parts:
            return None
        lead = cat(parts, dim=1)
        placed = vit.pos_embed is not None and not vit.no_embed_class
        return lead + vit.pos_embed[:, : self.prefix] if placed else lead

    def rope(self, grid: tuple[int, int]) -> Tensor | None:
        rope = getattr(self.model, "rope", None)
        return None if rope is None else rope.get_embed(shape=list(grid))

    def enter(self, embedded: Embedded) -> Embedded:
        embedded.x = self.model.norm_pre(self.model.pos_drop(embedded.x))
        return embedded

    def leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.norm(x)
        return features, self.model.forward_head(features, pre_logits=True)


def embedded_patches(patch_embed: Any, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """(B, N, D) tokens of timm's patch embedding at any image size, and their grid.

    A patch of one pixel is a linear map of its channels, and is computed as that.
    """
    height, width = images.shape[-2:]
    rows, columns = patch_embed.patch_size
    if type(patch_embed).forward is not PatchEmbed.forward:
        x = patch_embed(images)
        grid = tuple(patch_embed.dynamic_feat_size((height, width)))
        return x.reshape(len(x), -1, x.shape[-1]), grid
    if height % rows or width % columns:
        raise ValueError(f"patches of {rows} x {columns} px do not tile an image of {height} x {width} px")
    if (rows, columns) == (1, 1):
        x = F.linear(images.flatten(2).transpose(1, 2), patch_embed.proj.weight.flatten(1), patch_embed.proj.bias)
    else:
        x = patch_embed.proj(images).flatten(2).transpose(1, 2)
    return patch_embed.norm(x), (height // rows, width // columns)
