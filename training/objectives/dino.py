"""DINO."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from training.assignments import TeacherAssignments
from training.backbones.interface import Backbone
from training.heads import DINOHead
from training.losses.self_distillation import cross_view_entropy
from training.objectives.base import BatchNeed, Losses, Objective, StepState, objective
from training.prototypes import assignment_figures
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.spreading import SpreadingConfig
from training.teacher import Teacher
from training.views import Views


@objective("dino")
class DINO(Objective):
    """Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021, arXiv:2104.14294).

    Every crop predicts the assignment to prototypes that a slow moving average of the network makes of a full crop.
    """

    class Config(SpreadingConfig):
        student_temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of the predictions.")
        momentum: float = Field(
            0.996, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        frozen_epochs: int = Field(1, ge=0, description="Epochs in which the prototypes stay as they are.")
        targets: TeacherAssignments.Config = Field(
            TeacherAssignments.Config(), description="How the teacher's output becomes targets."
        )
        head: DINOHead.Config = Field(DINOHead.Config(), description="The head; features are taken before it.")

    views = multi_crop(local_crops=8)
    takes = SEVERAL_VIEWS
    family = "self-distillation"
    batch = BatchNeed(64, 1024)
    prefers_balanced = True
    small = small_recipe(
        {
            "momentum": 0.9,
            "koleo_weight": 0.3,
            "koleo_on": "head",
            "targets": {"balance": "sinkhorn", "temperature": 0.04},
            "head": {"hidden": 512, "bottleneck": 64, "prototypes": 1024},
        },
        SMALL_PAIRS,
    )

    def build(self, backbone: Backbone) -> None:
        self.head = DINOHead(backbone.dim, self.config.head)
        self.teacher = Teacher(self, "backbone", "head")
        self.targets = TeacherAssignments(self.config.head.prototypes, self.config.targets)

    def blind_loss(self, batch: int) -> float:  # noqa: ARG002
        return math.log(self.config.head.prototypes)

    def forward(self, batch: Views, state: StepState) -> Losses:
        B = len(batch.rows)
        features = self.pooled(batch)  # (V B, D)
        targets = self.targets(self._teacher_logits(batch.crops), state).unflatten(0, (-1, B))
        embedded = self.head.embedded(features).unflatten(0, (-1, B))
        logits = self.head.prototypes(embedded)
        loss = cross_view_entropy(targets, logits, self.config.student_temperature)
        terms = assignment_figures(targets)
        full = slice(batch.full_size)
        loss = self.config.spread(loss, terms, features.split(B)[full], embedded[full].unbind())
        return Losses(loss, features, terms)

    @torch.no_grad()
    def _teacher_logits(self, crops: Tensor) -> Tensor:
        return self.teacher["head"](self.teacher["backbone"](crops).pooled)

    def frozen(self, steps_per_epoch: int) -> dict[str, int]:
        return {"head.prototypes.": self.config.frozen_epochs * steps_per_epoch}

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum)

    def export_backbone(self) -> Backbone:
        return self.teacher["backbone"]  # type: ignore[return-value]
