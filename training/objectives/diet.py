"""DIET."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from training.backbones.interface import Backbone
from training.losses.instance_classes import instance_cross_entropy
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import SMALL_PAIRS, ViewNeeds, small_recipe, two_crops
from training.views import Views


@objective("diet")
class DIET(Objective):
    """Occam's Razor for Self-Supervised Learning: What Is Sufficient to Learn Good Representations? (Ibrahim et al.,
    2024, arXiv:2406.10743).

    Each training image is a class of its own for a linear classifier: no pairs of views, no projector, no teacher.
    """

    class Config(ObjectiveConfig):
        smoothing: float = Field(0.8, ge=0, lt=1, description="Share of each label that all images get alike.")
        most_rows: int = Field(
            300_000, ge=2, description="Largest number of training images: the classifier has a row for each."
        )

    views = replace(two_crops(strength=1.0, blur=0.5), crops=1)
    takes = ViewNeeds(1, 0, True, "it classifies each crop by itself")
    family = "instance classification"
    batch = BatchNeed(32, 256)
    small = small_recipe(views={**SMALL_PAIRS, "crops": 1}, steps=800)

    def build(self, backbone: Backbone) -> None:
        if not 2 <= self.rows <= self.config.most_rows:
            raise ValueError(
                f"diet has a class for each training image, and there are {self.rows}: it takes 2 to "
                f"{self.config.most_rows}. Select fewer images, raise most_rows, or choose an objective without "
                "classes, such as dcl"
            )
        self.classifier = nn.Linear(backbone.dim, self.rows, bias=False)

    def blind_loss(self, batch: int) -> float:  # noqa: ARG002
        return math.log(self.rows)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        features = self.pooled(batch)  # (V B, D)
        logits = self.classifier(features)
        classes = torch.from_numpy(batch.rows).to(logits.device).repeat(len(features) // len(batch.rows))
        right = (logits.detach().argmax(dim=1) == classes).float().mean()
        return Losses(instance_cross_entropy(logits, classes, self.config.smoothing), features, {"recognised": right})
