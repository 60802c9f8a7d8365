"""BYOL."""

from __future__ import annotations

import copy

import torch
from pydantic import Field
from torch import Tensor, nn

from training import ema
from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.normalised_mse import normalised_mse
from training.objectives.base import Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import multi_crop
from training.schedules import Schedule
from training.views import Views


@objective("byol")
class BYOL(Objective):
    """Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning (Grill et al., 2020, arXiv:2006.07733).

    The network predicts, from one view, what a slow moving average of itself makes of the other view.
    """

    class Config(ObjectiveConfig):
        momentum: float = Field(
            0.996, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=2, hidden=4096, out=256, output_norm=False),
            description="The projector, and the predictor behind it; features are taken before both.",
        )

    views = multi_crop(local_crops=0, global_scale=0.08)
    family = "self-distillation"

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)
        self.predictor = MLPHead(self.config.projection.out, self.config.projection)
        averaged = {"backbone": copy.deepcopy(backbone), "projector": copy.deepcopy(self.projector)}
        self.teacher = nn.ModuleDict(averaged).requires_grad_(False)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        views = batch.crops.chunk(2)  # each through the network by itself, as in the paper's appendix J
        features = [self.backbone(view).pooled for view in views]
        first, second = (self.predictor(self.projector(feature)) for feature in features)
        first_target, second_target = (self._target(view) for view in views)
        loss = normalised_mse(first, second_target) + normalised_mse(second, first_target)
        return Losses(loss, torch.cat(features))

    @torch.no_grad()
    def _target(self, view: Tensor) -> Tensor:
        return self.teacher["projector"](self.teacher["backbone"](view).pooled)

    def after_step(self, state: StepState) -> None:
        momentum = Schedule("cosine", peak=self.config.momentum, end=1.0).at(state.step, state.steps)
        ema.update(self.teacher, self, momentum)
