"""VICReg."""

from __future__ import annotations

import torch
from pydantic import Field

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.vicreg import covariance_penalty, invariance, variance_hinge
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.view_pairs import over_pairs
from training.views import Views


@objective("vicreg")
class VICReg(Objective):
    """VICReg: Variance-Invariance-Covariance Regularization (Bardes et al., 2021, arXiv:2105.04906).

    Views of an image agree, while each feature varies over the batch and no two features say the same.
    """

    class Config(ObjectiveConfig):
        invariance: float = Field(25.0, ge=0, description="Weight of the distance between views.")
        variance: float = Field(25.0, ge=0, description="Weight of the hinge on each feature's standard deviation.")
        covariance: float = Field(1.0, ge=0, description="Weight of the squared covariances between features.")
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=3, hidden=8192, out=8192, output_norm=False),
            description="The projector (the paper's expander); features are taken before it. Its width matters.",
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
        weights = {name: getattr(self.config, name) for name in ("invariance", "variance", "covariance")}
        terms = {
            "invariance": over_pairs(invariance, projected, batch.full_size),
            "variance": torch.stack([variance_hinge(z) for z in projected]).mean(),
            # summed over the two views of the paper, where the variances are averaged
            "covariance": 2 * torch.stack([covariance_penalty(z) for z in projected]).mean(),
        }
        total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        return Losses(total, features, {name: value.detach() for name, value in terms.items()})
