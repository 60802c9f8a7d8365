"""BYOL."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.cosine import normalised_mse
from training.objectives.base import BatchNeed, Losses, Objective, StepState, objective
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.spreading import SpreadingConfig
from training.teacher import Teacher
from training.view_pairs import over_targets
from training.views import Views


@objective("byol")
class BYOL(Objective):
    """Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning (Grill et al., 2020, arXiv:2006.07733).

    The network predicts, from one view, what a slow moving average of itself makes of the other view.
    """

    class Config(SpreadingConfig):
        momentum: float = Field(
            0.996, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=2, hidden=4096, out=256, output_norm=False),
            description="The projector, and the predictor behind it; features are taken before both.",
        )

    views = multi_crop(local_crops=0, global_scale=0.08)
    takes = SEVERAL_VIEWS
    family = "self-distillation"
    batch = BatchNeed(256, 4096)
    small = small_recipe(
        {"momentum": 0.9, "koleo_weight": 0.1, "koleo_on": "head", "projection": {"hidden": 512}}, SMALL_PAIRS
    )

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)
        self.predictor = MLPHead(self.config.projection.out, self.config.projection)
        self.teacher = Teacher(self, "backbone", "projector")

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        # each view through the network by itself, as in the paper's appendix J
        views = [view for crops in batch.groups for view in crops.split(len(batch.rows))]
        features = [self.backbone(view).pooled for view in views]
        projected = [self.projector(feature) for feature in features]
        predicted = torch.stack([self.predictor(each) for each in projected])
        targets = torch.stack([self._target(view) for view in views[: batch.full_size]])
        loss = 2 * over_targets(normalised_mse, predicted, targets)
        terms: dict[str, Tensor] = {}
        full = slice(batch.full_size)
        return Losses(self.config.spread(loss, terms, features[full], projected[full]), torch.cat(features), terms)

    @torch.no_grad()
    def _target(self, view: Tensor) -> Tensor:
        return self.teacher["projector"](self.teacher["backbone"](view).pooled)

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum)
