"""MSN."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from training.backbones.interface import Backbone
from training.heads import MLPHead
from training.losses.mean_entropy import mean_entropy
from training.losses.self_distillation import soft_cross_entropy
from training.losses.sinkhorn import sinkhorn_knopp
from training.masks import random_keep
from training.objectives.base import BatchNeed, Losses, Objective, StepState, objective
from training.prototypes import Prototypes, assignment_figures
from training.recipes import SMALL_PAIRS, ViewNeeds, multi_crop, small_recipe
from training.spreading import SpreadingConfig
from training.teacher import Teacher
from training.views import Views


@objective("msn")
class MSN(Objective):
    """Masked Siamese Networks for Label-Efficient Learning (Assran et al., 2022, arXiv:2204.07141).

    What is left of a masked view, and small crops, are assigned to the prototypes that the whole first view is near.
    """

    class Config(SpreadingConfig):
        mask_ratio: float = Field(
            0.15, ge=0, lt=1, description="Share of the patches that full-size anchors lose; up to 0.7 for large ViTs."
        )
        temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of the anchors.")
        sharpening: float = Field(
            0.25, gt=0, le=1, description="Temperature of the targets, as a share of the anchors'."
        )
        sinkhorn: int = Field(3, ge=0, le=20, description="Sinkhorn-Knopp iterations on the targets; 0 for none.")
        mean_entropy: float = Field(
            1.0, ge=0, description="Weight of the regulariser that has prototypes used alike over a batch."
        )
        momentum: float = Field(
            0.996, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        prototypes: int = Field(1024, ge=2, description="Prototypes; fewer than a batch has anchors suit small data.")
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=3, hidden=2048, out=256, output_norm=False, activation="gelu"),
            description="The projector; features are taken before it.",
        )

    views = multi_crop(local_crops=10, global_scale=0.3, local_scale=0.3)
    takes = ViewNeeds(2, 0, True, "its first crop is the target of the others")
    family = "self-distillation"
    suits = "vit"
    batch = BatchNeed(64, 1024)
    prefers_balanced = True
    small = small_recipe(
        {"momentum": 0.9, "koleo_weight": 0.5, "prototypes": 128, "projection": {"hidden": 512, "out": 128}},
        {**SMALL_PAIRS, "local_crops": 2},
    )

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)
        self.prototypes = Prototypes(self.config.projection.out, self.config.prototypes)
        self.teacher = Teacher(self, "backbone", "projector")

    def blind_loss(self, batch: int) -> float:  # noqa: ARG002
        return math.log(self.config.prototypes)

    def forward(self, batch: Views, state: StepState) -> Losses:
        B, temperature = len(batch.rows), self.config.temperature
        features = self._anchor_features(batch, state)  # (A B, D)
        projected = self.projector(features).unflatten(0, (-1, B))
        logits = self.prototypes(projected)  # (A, B, K)
        targets = self._targets(batch.crops[:B])
        assigned = soft_cross_entropy(targets.unsqueeze(0), logits, temperature).mean()
        unbalance = mean_entropy((logits.flatten(0, 1) / temperature).softmax(dim=1))
        terms = {**assignment_figures(targets), "mean_entropy": unbalance.detach()}
        loss = assigned + self.config.mean_entropy * unbalance
        anchors = slice(batch.full_size - 1)
        loss = self.config.spread(loss, terms, features.split(B)[anchors], projected[anchors].unbind())
        return Losses(loss, features, terms)

    def _anchor_features(self, batch: Views, state: StepState) -> Tensor:
        """Features of all crops but each image's first; what is masked of full-size ones is not computed."""
        B, side = len(batch.rows), batch.crops.shape[-1] // self.backbone.patch
        keep = [
            random_keep(batch.rows, side * side, self.config.mask_ratio, seed=state.seed, epoch=state.epoch, view=view)
            for view in range(1, batch.full_size)
        ]
        groups = [batch.crops[B:], *batch.groups[1:]]
        kept = [torch.cat(keep).to(batch.crops.device), *[None] * (len(groups) - 1)]
        return torch.cat([tokens.pooled for tokens in self.backbone.tokens_of(groups, keep=kept)])

    @torch.no_grad()
    def _targets(self, crops: Tensor) -> Tensor:
        logits = self.prototypes(self.teacher["projector"](self.teacher["backbone"](crops).pooled))
        logits = (logits / (self.config.temperature * self.config.sharpening)).log_softmax(dim=1)
        return sinkhorn_knopp(logits, 1.0, self.config.sinkhorn) if self.config.sinkhorn else logits.exp()

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum)

    def export_backbone(self) -> Backbone:
        return self.teacher["backbone"]  # type: ignore[return-value]
