"""DIET."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

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

    A row of the classifier meets its own image once an epoch, and the paper trains for hundreds of them or thousands.
    In five, rows stay about where they began: the backbone learns to fit random directions, and ends below where it
    started. So the small recipe's rows begin near zero and turn to their image at its first visit; cosines over a
    temperature make that count at once, of features without what all images share, which rows would learn first;
    and labels are not smoothed.
    """

    class Config(ObjectiveConfig):
        smoothing: float = Field(0.8, ge=0, lt=1, description="Share of each label that all images get alike.")
        centre: bool = Field(
            False, description="Normalise features over the batch before the classifier (batch norm, nothing learned)."
        )
        temperature: float = Field(
            0.0, ge=0, le=10, description="Divides cosines of features and rows; 0: products, as the paper has them."
        )
        first_rows: float = Field(
            1.0,
            gt=0,
            le=1,
            description="Size of the first rows against a linear layer's: small ones soon turn to their image.",
        )
        most_rows: int = Field(
            300_000, ge=2, description="Largest number of training images: the classifier has a row for each."
        )

    views = replace(two_crops(strength=1.0, blur=0.5), crops=1)
    takes = ViewNeeds(1, 0, True, "it classifies each crop by itself")
    family = "instance classification"
    batch = BatchNeed(32, 256)
    small = small_recipe(
        {"smoothing": 0.0, "centre": True, "temperature": 0.1, "first_rows": 0.001},
        {**SMALL_PAIRS, "crops": 1},
        steps=800,
        first_weights="mae",
    )

    def build(self, backbone: Backbone) -> None:
        if not 2 <= self.rows <= self.config.most_rows:
            raise ValueError(
                f"diet has a class for each training image, and there are {self.rows}: it takes 2 to "
                f"{self.config.most_rows}. Select fewer images, raise most_rows, or choose an objective without "
                "classes, such as dcl"
            )
        self.classifier = nn.Linear(backbone.dim, self.rows, bias=False)
        with torch.no_grad():
            self.classifier.weight.mul_(self.config.first_rows)
        self.norm = nn.BatchNorm1d(backbone.dim, affine=False) if self.config.centre else nn.Identity()

    def blind_loss(self, batch: int) -> float:  # noqa: ARG002
        return math.log(self.rows)

    def forward(self, batch: Views, state: StepState) -> Losses:  # noqa: ARG002
        features = self.pooled(batch)  # (V B, D)
        logits = self._logits(self.norm(features))
        classes = torch.from_numpy(batch.rows).to(logits.device).repeat(len(features) // len(batch.rows))
        right = (logits.detach().argmax(dim=1) == classes).float().mean()
        return Losses(instance_cross_entropy(logits, classes, self.config.smoothing), features, {"recognised": right})

    def _logits(self, features: Tensor) -> Tensor:
        if self.config.temperature:
            rows = F.normalize(self.classifier.weight, dim=1)
            return F.linear(F.normalize(features, dim=1), rows) / self.config.temperature
        return self.classifier(features)
