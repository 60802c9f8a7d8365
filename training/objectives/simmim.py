"""SimMIM."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from training.backbones.interface import Backbone
from training.losses.reconstruction import masked_l1, patchify
from training.masks import random_units
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import ONE_VIEW, one_crop, small_recipe
from training.views import Views


@objective("simmim")
class SimMIM(Objective):
    """SimMIM: A Simple Framework for Masked Image Modeling (Xie et al., 2021, arXiv:2111.09886).

    The encoder sees all patches, large random squares of them hidden, and one linear layer predicts the hidden pixels.
    """

    class Config(ObjectiveConfig):
        mask_ratio: float = Field(0.6, gt=0, lt=1, description="Share of the patches that are hidden.")
        unit: int = Field(2, ge=1, le=64, description="Side of a hidden square in patches; the paper has 32 px.")

    views = one_crop(scale=0.67)
    takes = ONE_VIEW
    family = "masked image modelling"
    suits = "vit"
    batch = BatchNeed(32, 2048)
    small = small_recipe({"unit": 1}, steps=1000)

    def build(self, backbone: Backbone) -> None:
        self.mask_token = nn.Parameter(torch.zeros(backbone.token_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = nn.Linear(backbone.token_dim, backbone.patch**2 * 3)

    def forward(self, batch: Views, state: StepState) -> Losses:
        side = batch.crops.shape[-1] // self.backbone.patch
        mask = random_units(
            batch.rows, (side, side), self.config.mask_ratio, self.config.unit, seed=state.seed, epoch=state.epoch
        ).to(batch.crops.device)
        tokens = self.backbone.tokens(batch.crops, mask=mask, mask_token=self.mask_token)
        target = patchify(batch.crops, self.backbone.patch)
        return Losses(masked_l1(self.decoder(tokens.patches), target, mask), tokens.pooled)
