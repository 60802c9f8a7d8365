"""MoCo v3."""

from __future__ import annotations

import math
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.info_nce import info_nce
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.teacher import Teacher
from training.view_pairs import over_targets
from training.views import Views


@objective("moco_v3")
class MoCoV3(Objective):
    """An Empirical Study of Training Self-Supervised Vision Transformers (Chen et al., 2021, arXiv:2104.02057).

    A query of one view finds the key that a slow moving average makes of the other view, among the batch's keys.

    A vision transformer starts from the authors' first weights: Xavier-uniform matrices, sine-cosine positions (which
    learn on, as timm's do), and a random patch projection on that scale, which stays as it is.
    """

    class Config(ObjectiveConfig):
        temperature: float = Field(0.2, gt=0, le=10, description="Softmax temperature.")
        momentum: float = Field(
            0.99, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        freeze_patch_embed: bool = Field(
            True, description="Keep a vision transformer's random patch projection, which stabilises training."
        )
        spare_duplicates: bool = Field(
            False,
            description="Let images of one duplicate group be no negatives of each other; needs sample_by: [group] of "
            "the shard stage.",
        )
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=3, hidden=4096, out=256),
            description="The projector; features are taken before it.",
        )
        prediction: MLPHead.Config = Field(
            MLPHead.Config(layers=2, hidden=4096, out=256), description="The predictor of the queries."
        )

    views = multi_crop(local_crops=0, global_scale=0.08)
    takes = SEVERAL_VIEWS
    family = "contrastive"
    batch = BatchNeed(256, 4096)
    first_weights = "moco_v3"
    prefers_balanced = True
    small = small_recipe(
        {
            "momentum": 0.9,
            "freeze_patch_embed": False,
            "projection": {"layers": 2, "hidden": 512},
            "prediction": {"hidden": 512},
        },
        SMALL_PAIRS,
    )

    def build(self, backbone: Backbone) -> None:
        if self.config.prediction.out != self.config.projection.out:
            raise ValueError("prediction.out and projection.out must be equal: queries are compared with keys")
        embedding = getattr(backbone.model, "patch_embed", None)
        if self.config.freeze_patch_embed and isinstance(embedding, nn.Module):
            embedding.requires_grad_(False)
        self.projector = MLPHead(backbone.dim, self.config.projection)
        self.predictor = MLPHead(self.config.projection.out, self.config.prediction)
        self.teacher = Teacher(self, "backbone", "projector")

    def blind_loss(self, batch: int) -> float:
        return 4 * self.config.temperature * math.log(batch)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        B, temperature = len(batch.rows), self.config.temperature
        features = self.pooled(batch)  # (V B, D)
        queries = self.predictor(self.projector(features)).unflatten(0, (-1, B))
        keys = self._keys(batch.crops).unflatten(0, (-1, B))
        loss = over_targets(partial(info_nce, temperature=temperature, duplicates=batch.duplicates), queries, keys)
        return Losses(4 * temperature * loss, features)  # the paper's 2 tau for each of the two directions

    @torch.no_grad()
    def _keys(self, crops: Tensor) -> Tensor:
        return self.teacher["projector"](self.teacher["backbone"](crops).pooled)

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum)
