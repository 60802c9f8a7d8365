"""MaskFeat."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import nn

from training.backbones.interface import Backbone
from training.block_masks import block_masks
from training.hog import hog_patches
from training.losses.reconstruction import masked_mse
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import ONE_VIEW, one_crop, small_recipe
from training.views import Views


@objective("maskfeat")
class MaskFeat(Objective):
    """Masked Feature Prediction for Self-Supervised Visual Pre-Training (Wei et al., 2021, arXiv:2112.09133).

    Blocks of patches are hidden, and a linear layer predicts their histograms of oriented gradients.
    """

    class Config(ObjectiveConfig):
        mask_ratio: float = Field(0.4, gt=0, lt=1, description="Share of the patches that are hidden, in blocks.")
        bins: int = Field(9, ge=2, le=64, description="Directions of a histogram.")
        cells: int = Field(2, ge=1, le=16, description="Histograms along a patch's side; divides the patch.")
        hog_norm: bool = Field(True, description="Scale each histogram to length 1 (local contrast normalisation).")

    views = one_crop(scale=0.5)
    takes = ONE_VIEW
    family = "masked image modelling"
    suits = "vit"
    batch = BatchNeed(32, 2048)
    small = small_recipe(steps=1000)

    def build(self, backbone: Backbone) -> None:
        if backbone.patch % self.config.cells:
            raise ValueError(f"cells: {self.config.cells} do not tile the side of a patch of {backbone.patch} px")
        self.mask_token = nn.Parameter(torch.zeros(backbone.token_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = nn.Linear(backbone.token_dim, 3 * self.config.bins * self.config.cells**2)

    def forward(self, batch: Views, state: StepState) -> Losses:
        side = batch.crops.shape[-1] // self.backbone.patch
        counts = np.full(len(batch.rows), max(1, round(self.config.mask_ratio * side**2)))
        mask = block_masks(batch.rows, (side, side), counts, seed=state.seed, epoch=state.epoch)
        mask = mask.to(batch.crops.device)
        tokens = self.backbone.tokens(batch.crops, mask=mask, mask_token=self.mask_token)
        target = hog_patches(
            batch.crops,
            self.backbone.patch,
            cells=self.config.cells,
            bins=self.config.bins,
            normalise=self.config.hog_norm,
        )
        return Losses(masked_mse(self.decoder(tokens.patches), target, mask), tokens.pooled)
