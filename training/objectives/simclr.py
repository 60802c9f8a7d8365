"""SimCLR."""

from __future__ import annotations

import math
from functools import partial

from pydantic import Field

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.nt_xent import nt_xent
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, small_recipe, two_crops
from training.view_pairs import over_pairs
from training.views import Views


@objective("simclr")
class SimCLR(Objective):
    """A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020, arXiv:2002.05709).

    Two views of an image attract, all other images of the global batch repel.
    """

    class Config(ObjectiveConfig):
        temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of NT-Xent.")
        spare_duplicates: bool = Field(
            False,
            description="Let images of one duplicate group be no negatives of each other; needs sample_by: [group] of "
            "the shard stage.",
        )
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=2, hidden=2048, out=128),
            description="The projector; features are taken before it.",
        )

    views = two_crops(strength=1.0, blur=0.5)
    takes = SEVERAL_VIEWS
    family = "contrastive"
    batch = BatchNeed(256, 4096)
    prefers_balanced = True
    small = small_recipe({"temperature": 0.2, "projection": {"hidden": 512}}, SMALL_PAIRS)

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)

    def blind_loss(self, batch: int) -> float:
        return math.log(2 * batch - 1)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        features = self.pooled(batch)  # (V B, D)
        projected = self.projector(features).unflatten(0, (-1, len(batch.rows)))
        loss = over_pairs(
            partial(nt_xent, temperature=self.config.temperature, duplicates=batch.duplicates),
            projected,
            batch.full_size,
        )
        return Losses(loss, features)
