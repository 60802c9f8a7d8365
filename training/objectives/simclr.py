"""SimCLR."""

from __future__ import annotations

from pydantic import Field

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.nt_xent import nt_xent
from training.objectives.base import Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import two_crops
from training.views import Views


@objective("simclr")
class SimCLR(Objective):
    """A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020, arXiv:2002.05709).

    Two views of an image attract, all other images of the global batch repel.
    """

    class Config(ObjectiveConfig):
        temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of NT-Xent.")
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=2, hidden=2048, out=128),
            description="The projector; features are taken before it.",
        )

    views = two_crops(strength=1.0, blur=0.5)
    family = "contrastive"

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        features = self.backbone(batch.crops).pooled  # (2B, D)
        first, second = self.projector(features).chunk(2)
        return Losses(nt_xent(first, second, self.config.temperature), features)
