"""iBOT."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from training.assignments import TeacherAssignments
from training.backbones.interface import Backbone
from training.heads import DINOHead
from training.losses.self_distillation import cross_view_entropy, masked_patch_entropy
from training.objectives.base import BatchNeed, Losses, Objective, StepState, objective
from training.patch_masking import BlockMasking, masked_patches
from training.prototypes import assignment_figures
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.spreading import SpreadingConfig
from training.teacher import Teacher
from training.views import Views


@objective("ibot")
class IBOT(Objective):
    """iBOT: Image BERT Pre-Training with Online Tokenizer (Zhou et al., 2021, arXiv:2111.07832).

    DINO's loss between views, and the same loss for hidden patches, whose targets the teacher makes of the full view.
    """

    class Config(SpreadingConfig):
        student_temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of the predictions.")
        momentum: float = Field(
            0.996, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        frozen_epochs: int = Field(1, ge=0, description="Epochs in which the prototypes stay as they are.")
        patch_weight: float = Field(1.0, ge=0, description="Weight of the loss of hidden patches.")
        masking: BlockMasking = Field(BlockMasking(), description="Which patches are hidden.")
        targets: TeacherAssignments.Config = Field(
            TeacherAssignments.Config(), description="How the teacher's output becomes targets."
        )
        head: DINOHead.Config = Field(
            DINOHead.Config(prototypes=8192), description="The head of class token and patches alike."
        )

    views = multi_crop(local_crops=10)
    takes = SEVERAL_VIEWS
    family = "self-distillation"
    suits = "vit"
    batch = BatchNeed(64, 1024)
    prefers_balanced = True
    small = small_recipe(
        {
            "momentum": 0.9,
            "koleo_weight": 0.5,
            "targets": {"balance": "sinkhorn", "temperature": 0.04},
            "head": {"hidden": 512, "bottleneck": 64, "prototypes": 1024},
        },
        SMALL_PAIRS,
    )

    def build(self, backbone: Backbone) -> None:
        if backbone.dim != backbone.token_dim:
            raise ValueError("one head for class token and patches needs both to have one width: use another backbone")
        self.head = DINOHead(backbone.dim, self.config.head)
        self.mask_token = nn.Parameter(torch.zeros(backbone.token_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.teacher = Teacher(self, "backbone", "head")
        self.targets = TeacherAssignments(self.config.head.prototypes, self.config.targets)
        self.patch_targets = TeacherAssignments(self.config.head.prototypes, self.config.targets)

    def forward(self, batch: Views, state: StepState) -> Losses:
        B, side = len(batch.rows), batch.crops.shape[-1] // self.backbone.patch
        hidden = masked_patches(batch, (side, side), self.config.masking, state)
        targets, patch_targets = self._targets(batch.crops, state)
        masks = [hidden.mask, *[None] * (len(batch.groups) - 1)]
        tokens = self.backbone.tokens_of(batch.groups, mask=masks, mask_token=self.mask_token)
        features = torch.cat([each.pooled for each in tokens])
        patches = tokens[0].patches.flatten(0, 1)[hidden.places]
        embedded = self.head.embedded(torch.cat([features, patches]))
        logits, patch_logits = self.head.prototypes(embedded).split([len(features), len(patches)])
        temperature = self.config.student_temperature
        between = cross_view_entropy(targets.unflatten(0, (-1, B)), logits.unflatten(0, (-1, B)), temperature)
        within = masked_patch_entropy(
            patch_targets.flatten(0, 1)[hidden.places], patch_logits, hidden.weights, len(hidden.mask), temperature
        )
        terms = {"views": between.detach(), "patches": within.detach(), **assignment_figures(targets)}
        loss = between + self.config.patch_weight * within
        full = slice(batch.full_size)
        loss = self.config.spread(loss, terms, features.split(B)[full], embedded[: len(features)].split(B)[full])
        return Losses(loss, features, terms)

    @torch.no_grad()
    def _targets(self, crops: Tensor, state: StepState) -> tuple[Tensor, Tensor]:
        """(T B, K) of the views and (T B, N, K) of all their patches; the two have centres of their own."""
        tokens = self.teacher["backbone"](crops)
        head = self.teacher["head"]
        return self.targets(head(tokens.pooled), state), self.patch_targets(head(tokens.patches), state)

    def frozen(self, steps_per_epoch: int) -> dict[str, int]:
        return {"head.prototypes.": self.config.frozen_epochs * steps_per_epoch}

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum)

    def export_backbone(self) -> Backbone:
        return self.teacher["backbone"]  # type: ignore[return-value]
