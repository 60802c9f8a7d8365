"""DenseCL."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from training.backbones.interface import Backbone, Tokens
from training.feature_queue import FeatureQueue
from training.losses.dense_contrast import corresponding_cells, dense_info_nce
from training.losses.info_nce import info_nce
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SMALL_PAIRS, ViewNeeds, small_recipe, two_crops
from training.teacher import Teacher
from training.views import Views


class _Maps(NamedTuple):
    """Of V views of B images: cells of backbone features (V B, N, D), their projections, and the pooled ones."""

    cells: Tensor
    dense: Tensor
    pooled: Tensor


@objective("densecl")
class DenseCL(Objective):
    """Dense Contrastive Learning for Self-Supervised Visual Pre-Training (Wang et al., 2020, arXiv:2011.09157).

    MoCo v2 on pooled features, and beside it on the cells of the feature maps, paired by their similarity.
    Both views are queries of each other's keys, and batch norms are over the global batch where MoCo shuffles it.
    """

    class Config(ObjectiveConfig):
        temperature: float = Field(0.2, gt=0, le=10, description="Softmax temperature of both losses.")
        dense_share: float = Field(0.5, ge=0, le=1, description="Share of the dense loss in the sum of both.")
        cells: int = Field(7, ge=1, le=64, description="Feature maps with more cells a side are pooled to so many.")
        queue: int = Field(65536, ge=1, description="Keys of earlier images; a quarter of the images is enough.")
        momentum: float = Field(0.999, ge=0, le=1, description="Momentum of the moving average.")
        hidden: int = Field(
            2048, ge=1, description="Hidden width of the two projectors, of pooled features and cells."
        )
        out: int = Field(128, ge=1, description="Width of their output.")

    views = two_crops(strength=0.5, blur=0.5)
    takes = ViewNeeds(2, 2, False, "it pairs the cells of two feature maps")
    family = "contrastive"
    batch = BatchNeed(64, 256)
    prefers_balanced = True
    small = small_recipe({"temperature": 0.1, "queue": 1024, "momentum": 0.99, "hidden": 512}, SMALL_PAIRS)

    def build(self, backbone: Backbone) -> None:
        self.projector = self._projector(backbone.dim)
        self.dense_projector = self._projector(backbone.token_dim)
        self.teacher = Teacher(self, "backbone", "projector", "dense_projector")
        self.queue = FeatureQueue(self.config.queue, self.config.out)
        self.dense_queue = FeatureQueue(self.config.queue, self.config.out)

    def _projector(self, dim: int) -> nn.Sequential:
        hidden = self.config.hidden
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, self.config.out))

    def blind_loss(self, batch: int) -> float:  # noqa: ARG002
        return math.log(self.config.queue + 1)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        tokens = self.backbone(batch.crops)
        queries, keys = self._maps(self, tokens), self._keys(batch.crops)
        negatives, dense_negatives = self.queue.read()[0], self.dense_queue.read()[0]
        temperature = self.config.temperature
        swapped = _Maps(*(torch.cat(values.chunk(2)[::-1]) for values in keys))
        places = corresponding_cells(queries.cells, swapped.cells)
        whole = info_nce(queries.pooled, swapped.pooled, temperature, negatives=negatives)
        dense = dense_info_nce(queries.dense, swapped.dense, places, temperature, dense_negatives)
        if self.training:
            for pooled, dense_keys in zip(keys.pooled.chunk(2), keys.dense.chunk(2), strict=True):
                self.queue.push(F.normalize(pooled, dim=1))  # view by view, in one order on any number of ranks
                self.dense_queue.push(F.normalize(dense_keys.mean(dim=1), dim=1))
        share = self.config.dense_share
        terms = {"whole": whole.detach(), "dense": dense.detach()}
        return Losses((1 - share) * whole + share * dense, tokens.pooled, terms)

    @torch.no_grad()
    def _keys(self, crops: Tensor) -> _Maps:
        return self._maps(self.teacher, self.teacher["backbone"](crops))

    def _maps(self, heads: nn.Module, tokens: Tokens) -> _Maps:
        rows, columns = (min(self.config.cells, cells) for cells in tokens.grid)
        maps = tokens.patches.transpose(1, 2).unflatten(2, tokens.grid)
        cells = F.adaptive_avg_pool2d(maps, (rows, columns)).flatten(2).transpose(1, 2)
        return _Maps(
            cells, heads.get_submodule("dense_projector")(cells), heads.get_submodule("projector")(tokens.pooled)
        )

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum, self.config.momentum)
