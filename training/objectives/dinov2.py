"""DINOv2."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from training.assignments import TeacherAssignments
from training.backbones.interface import Backbone
from training.heads import DINOHead
from training.losses.koleo import koleo_of_views
from training.losses.self_distillation import cross_view_entropy, masked_patch_entropy
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.patch_masking import BlockMasking, MaskedPatches, masked_patches
from training.prototypes import assignment_figures
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.teacher import Teacher
from training.views import Views


@objective("dinov2")
class DINOv2(Objective):
    """DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2023, arXiv:2304.07193).

    DINO between views and iBOT for hidden patches, with heads of their own and balanced targets, and KoLeo's spread.
    """

    class Config(ObjectiveConfig):
        student_temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of the predictions.")
        momentum: float = Field(
            0.992,
            ge=0,
            le=1,
            description="Momentum of the moving average at first; it rises along a cosine to its end.",
        )
        momentum_end: float = Field(1.0, ge=0, le=1, description="Momentum of the moving average at the end.")
        frozen_epochs: int = Field(1, ge=0, description="Epochs in which the prototypes stay as they are.")
        patch_weight: float = Field(1.0, ge=0, description="Weight of the loss of hidden patches.")
        koleo_weight: float = Field(0.1, ge=0, description="Weight of KoLeo, which spreads the full crops' features.")
        koleo_over_ranks: bool = Field(True, description="Look for KoLeo's neighbours in the batch of all workers.")
        masking: BlockMasking = Field(BlockMasking(), description="Which patches are hidden.")
        targets: TeacherAssignments.Config = Field(
            TeacherAssignments.Config(balance="sinkhorn"), description="How the teacher's output becomes targets."
        )
        head: DINOHead.Config = Field(DINOHead.Config(), description="The head of the class token.")
        patch_head: DINOHead.Config = Field(DINOHead.Config(), description="The head of patches.")

    views = multi_crop(local_crops=8)
    takes = SEVERAL_VIEWS
    family = "self-distillation"
    suits = "vit"
    batch = BatchNeed(128, 2048)
    prefers_balanced = True
    small = small_recipe(
        {
            "momentum": 0.9,
            "koleo_weight": 0.5,
            "targets": {"temperature": 0.04},
            "head": {"hidden": 512, "bottleneck": 64, "prototypes": 1024},
            "patch_head": {"hidden": 512, "bottleneck": 64, "prototypes": 1024},
        },
        SMALL_PAIRS,
    )

    def build(self, backbone: Backbone) -> None:
        self.head = DINOHead(backbone.dim, self.config.head)
        self.patch_head = DINOHead(backbone.token_dim, self.config.patch_head)
        self.mask_token = nn.Parameter(torch.zeros(backbone.token_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.teacher = Teacher(self, "backbone", "head", "patch_head")
        self.targets = TeacherAssignments(self.config.head.prototypes, self.config.targets)
        self.patch_targets = TeacherAssignments(self.config.patch_head.prototypes, self.config.targets)

    def forward(self, batch: Views, state: StepState) -> Losses:
        B, side = len(batch.rows), batch.crops.shape[-1] // self.backbone.patch
        hidden = masked_patches(batch, (side, side), self.config.masking, state)
        targets, patch_targets = self._targets(batch.crops, hidden, state)
        masks = [hidden.mask, *[None] * (len(batch.groups) - 1)]
        tokens = self.backbone.tokens_of(batch.groups, mask=masks, mask_token=self.mask_token)
        features = torch.cat([each.pooled for each in tokens])
        temperature = self.config.student_temperature
        patch_logits = self.patch_head(tokens[0].patches.flatten(0, 1)[hidden.places])
        terms = {
            "views": cross_view_entropy(
                targets.unflatten(0, (-1, B)), self.head(features).unflatten(0, (-1, B)), temperature
            ),
            "patches": masked_patch_entropy(
                patch_targets, patch_logits, hidden.weights, len(hidden.mask), temperature
            ),
            "koleo": koleo_of_views(tokens[0].pooled.split(B), self.config.koleo_over_ranks),
        }
        weights = {"views": 1.0, "patches": self.config.patch_weight, "koleo": self.config.koleo_weight}
        total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        logged = {name: value.detach() for name, value in terms.items()}
        return Losses(total, features, {**logged, **assignment_figures(targets)})

    @torch.no_grad()
    def _targets(self, crops: Tensor, hidden: MaskedPatches, state: StepState) -> tuple[Tensor, Tensor]:
        """(T B, K) of the views, and (M, K) of the patches that are hidden from the student."""
        tokens = self.teacher["backbone"](crops)
        patches = tokens.patches.flatten(0, 1)[hidden.places]
        views = self.targets(self.teacher["head"](tokens.pooled), state)
        return views, self.patch_targets(self.teacher["patch_head"](patches), state)

    def frozen(self, steps_per_epoch: int) -> dict[str, int]:
        waiting = self.config.frozen_epochs * steps_per_epoch
        return {"head.prototypes.": waiting, "patch_head.prototypes.": waiting}

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum, self.config.momentum_end)

    def export_backbone(self) -> Backbone:
        return self.teacher["backbone"]  # type: ignore[return-value]
