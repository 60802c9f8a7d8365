"""Which patches of its crops an objective hides, found by watching what it asks of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from training.backbones.interface import Backbone, Tokens
from training.backbones.timm_vit import TimmViT
from training.masks import hidden
from training.objectives.base import StepState, create
from training.predictors import BlockPredictor
from training.views import Views

_WIDTH = 24

Crop = tuple[int, int]
"""Position of a crop size in `Views.groups`, and of a crop in its tensor."""


@dataclass(frozen=True)
class HiddenPatches:
    """hidden: (rows, columns) true where the backbone does not see the patch. targets: (M, rows, columns) true inside
    each block whose features are predicted; M is 0 where an objective predicts what is hidden."""

    hidden: NDArray[np.bool_]
    targets: NDArray[np.bool_]


def hidden_patches(
    objective: dict[str, Any], steps: Sequence[tuple[Views, StepState]], patch: int, rows: int = 0
) -> list[dict[Crop, list[HiddenPatches]]]:
    """What the objective hides of each crop of each step's batch; crops that are seen whole are absent.

    It runs once a batch on a vision transformer of one narrow block, whose patches have `patch` pixels, since masks
    depend on the samples, the step and the grid alone; so the objectives of plug-ins are watched like any other. A
    crop that is hidden in several ways has several entries. objective: full form, from `catalogue.resolve`. rows:
    training samples. Raises whatever the objective raises.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(steps[0][1].seed)
        backbone = _WatchedViT(steps[0][0].crops.shape[-1], patch)
        module = create(objective, backbone, rows).train()
        for predictor in (m for m in module.modules() if isinstance(m, BlockPredictor)):
            predictor.register_forward_pre_hook(backbone.note_targets)
        found = []
        for batch, state in steps:
            backbone.calls.clear()
            module(batch, state)
            found.append(_by_crop(backbone.calls, batch))
    return found


@dataclass
class _Call:
    """A forward pass in which patches were hidden. hidden: (B, rows, columns). targets: (B, M, rows, columns)."""

    images: Tensor
    keep: Tensor | None
    hidden: NDArray[np.bool_]
    targets: NDArray[np.bool_]


class _WatchedViT(TimmViT):
    """A small vision transformer that notes which patches it is not shown."""

    def __init__(self, image_size: int, patch: int) -> None:
        super().__init__(VisionTransformer(image_size, patch, embed_dim=_WIDTH, depth=1, num_heads=1, num_classes=0))
        self.calls: list[_Call] = []

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
        tokens = super().tokens(images, keep, mask, mask_token, position_noise, drop_positions, layers)
        grid = tokens.grid
        unseen = mask if keep is None else hidden(keep, grid[0] * grid[1])
        if unseen is not None:
            none = np.zeros((len(images), 0, *grid), bool)
            self.calls.append(_Call(images, keep, unseen.cpu().numpy().reshape(-1, *grid), none))
        return tokens

    def tokens_of(
        self,
        groups: Sequence[Tensor],
        keep: Sequence[Tensor | None] | None = None,
        mask: Sequence[Tensor | None] | None = None,
        mask_token: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Tokens]:
        return Backbone.tokens_of(self, groups, keep, mask, mask_token, layers)  # one call of `tokens` for each size

    def note_targets(self, _predictor: nn.Module, given: tuple[Any, ...]) -> None:
        """The predictor is asked for (B, M, T) patches beside those that the context keeps."""
        _, _, context, targets, grid = given
        for call in self.calls:
            if call.keep is context:
                B, M, _ = targets.shape
                blocks = torch.zeros(B, M, grid[0] * grid[1], dtype=torch.bool)
                call.targets = blocks.scatter_(2, targets.cpu(), True).view(B, M, *grid).numpy()


def _by_crop(calls: Sequence[_Call], batch: Views) -> dict[Crop, list[HiddenPatches]]:
    found: dict[Crop, list[HiddenPatches]] = {}
    for call in calls:
        for row in np.flatnonzero(call.hidden.any(axis=(1, 2))).tolist():
            crop = _crop_of(call.images[row], batch, found)
            if crop is not None:
                found.setdefault(crop, []).append(HiddenPatches(call.hidden[row], call.targets[row]))
    return found


def _crop_of(image: Tensor, batch: Views, found: dict[Crop, list[HiddenPatches]]) -> Crop | None:
    """The crop that an image is; of several equal ones that with the fewest entries; None for no crop of the batch."""
    equal = [
        (group, row)
        for group, crops in enumerate(batch.groups)
        if crops.shape[1:] == image.shape
        for row in (crops == image).flatten(1).all(dim=1).nonzero()[:, 0].tolist()
    ]
    return min(equal, key=lambda crop: len(found.get(crop, [])), default=None)
