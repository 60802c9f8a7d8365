"""Decoupled contrastive learning."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.nt_xent import decoupled_nt_xent
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, small_recipe, two_crops
from training.view_pairs import over_pairs
from training.views import Views


@objective("dcl")
class DCL(Objective):
    """Decoupled Contrastive Learning (Yeh et al., 2021, arXiv:2110.06848).

    SimCLR without the positive pair in the denominator, so that small batches and easy pairs still teach.
    """

    class Config(ObjectiveConfig):
        temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature.")
        sigma: float | None = Field(
            None, gt=0, le=10, description="Weigh pairs by how hard they are, the less the larger this is (0.5: DCLW)."
        )
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
    batch = BatchNeed(32, 256)
    prefers_balanced = True
    small = small_recipe({"temperature": 0.2, "projection": {"hidden": 512}}, SMALL_PAIRS)

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        features = self.pooled(batch)  # (V B, D)
        projected = self.projector(features).unflatten(0, (-1, len(batch.rows)))
        options = {"temperature": self.config.temperature, "sigma": self.config.sigma}
        loss = partial(decoupled_nt_xent, **options, duplicates=batch.duplicates)
        return Losses(over_pairs(loss, projected, batch.full_size), features)
