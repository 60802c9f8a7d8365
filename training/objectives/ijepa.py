"""I-JEPA."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from training.backbones.interface import Backbone
from training.jepa_masks import multi_block
from training.losses.feature_regression import smooth_l1
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.predictors import BlockPredictor
from training.recipes import ONE_VIEW, one_crop, small_recipe
from training.teacher import Teacher
from training.views import Views


@objective("ijepa")
class IJEPA(Objective):
    """Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (Assran et al., 2023,
    arXiv:2301.08243).

    From the patches of a context, a predictor tells the features that a slow moving average makes of target blocks.

    A vision transformer starts from the first weights of the published models: branches that shrink with depth, and
    sine-cosine positions, which learn on, as timm's do. A narrow one learns more in few steps from MAE's, which the
    small recipe takes.
    """

    class Config(ObjectiveConfig):
        momentum: float = Field(
            0.996, ge=0, le=1, description="Momentum of the moving average at first; it rises along a cosine to 1."
        )
        targets: int = Field(4, ge=1, le=16, description="Target blocks of an image.")
        target_least: float = Field(0.15, gt=0, lt=1, description="Least share of the patches in a target block.")
        target_most: float = Field(0.2, gt=0, lt=1, description="Largest share of the patches in a target block.")
        context_share: float = Field(0.33, gt=0, lt=1, description="Share of the patches that the context keeps.")
        predictor: BlockPredictor.Config = Field(BlockPredictor.Config(), description="The predictor.")

    views = one_crop(scale=0.3, flip=0.0)
    takes = ONE_VIEW
    family = "predictive"
    suits = "vit"
    batch = BatchNeed(64, 2048)
    first_weights = "ijepa"
    small = small_recipe(
        {
            "momentum": 0.9,
            "targets": 2,
            "target_least": 0.25,  # of some tens of patches: blocks, where the paper's shares leave strips
            "target_most": 0.25,
            "predictor": {"dim": 64, "depth": 3, "heads": 4},
        },
        steps=600,
        first_weights="mae",
    )

    def build(self, backbone: Backbone) -> None:
        self.predictor = BlockPredictor(backbone.token_dim, self.config.predictor)
        self.teacher = Teacher(self, "backbone")

    def forward(self, batch: Views, state: StepState) -> Losses:
        device, side = batch.crops.device, batch.crops.shape[-1] // self.backbone.patch
        blocks = multi_block(
            batch.rows,
            (side, side),
            seed=state.seed,
            epoch=state.epoch,
            step=state.step,
            targets=self.config.targets,
            target_scale=(self.config.target_least, self.config.target_most),
            context_share=self.config.context_share,
        )
        context, places = blocks.context.to(device), blocks.targets.to(device)
        targets = self._targets(batch.crops, places)
        tokens = self.backbone.tokens(batch.crops, keep=context)
        prefix = None if tokens.cls is None else tokens.cls.unsqueeze(1)
        predicted = self.predictor(prefix, tokens.patches, context, places, tokens.grid)
        spread = targets.float().flatten(0, 2).std(dim=0).mean()
        return Losses(smooth_l1(predicted, targets), tokens.pooled, {"target_std": spread})

    @torch.no_grad()
    def _targets(self, crops: Tensor, places: Tensor) -> Tensor:
        """(B, M, T, token_dim) features of the full view, normalised token by token, at the target blocks."""
        patches = self.teacher["backbone"](crops).patches
        patches = F.layer_norm(patches, patches.shape[-1:])
        index = places.flatten(1).unsqueeze(-1).expand(-1, -1, patches.shape[-1])
        return patches.gather(1, index).view(*places.shape, -1)

    def after_step(self, state: StepState) -> None:
        self.teacher.follow(self, state, self.config.momentum)

    def export_backbone(self) -> Backbone:
        return self.teacher["backbone"]  # type: ignore[return-value]
