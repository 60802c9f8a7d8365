"""Barlow Twins."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.barlow import barlow_twins
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.view_pairs import over_pairs
from training.views import Views


@objective("barlow_twins")
class BarlowTwins(Objective):
    """Barlow Twins: Self-Supervised Learning via Redundancy Reduction (Zbontar et al., 2021, arXiv:2103.03230).

    The correlations between the features of two views, over the global batch, shall be the identity.
    """

    class Config(ObjectiveConfig):
        off_diagonal: float = Field(0.0051, ge=0, description="Weight of the squared correlations off the diagonal.")
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=3, hidden=8192, out=8192, output_norm=False),
            description="The projector; features are taken before it. Its width matters.",
        )

    views = multi_crop(local_crops=0, global_scale=0.08)
    takes = SEVERAL_VIEWS
    family = "redundancy reduction"
    batch = BatchNeed(128, 2048)
    prefers_balanced = True
    small = small_recipe({"projection": {"hidden": 512, "out": 512}}, SMALL_PAIRS)

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        features = self.pooled(batch)  # (V B, D)
        projected = self.projector(features).unflatten(0, (-1, len(batch.rows)))
        redundancies: list[Tensor] = []
        loss = over_pairs(partial(self._loss, redundancies=redundancies), projected, batch.full_size)
        return Losses(loss, features, {"redundancy": torch.stack(redundancies).mean()})

    def _loss(self, first: Tensor, second: Tensor, redundancies: list[Tensor]) -> Tensor:
        loss, redundancy = barlow_twins(first, second, self.config.off_diagonal)
        redundancies.append(redundancy)
        return loss
