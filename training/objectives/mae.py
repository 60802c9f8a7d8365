"""Masked autoencoder."""

from __future__ import annotations

from pydantic import Field

from training.backbones.interface import Backbone
from training.heads import MAEDecoder
from training.losses.reconstruction import normalised_patches, patchify
from training.masks import hidden_indices, random_keep
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, objective
from training.recipes import ONE_VIEW, one_crop, small_recipe
from training.views import Views


@objective("mae")
class MAE(Objective):
    """Masked Autoencoders Are Scalable Vision Learners (He et al., 2021, arXiv:2111.06377).

    The encoder sees a quarter of the patches, a small decoder predicts the pixels of the rest.

    A vision transformer starts from the paper's first weights (appendix A.1: Xavier-uniform matrices, sine-cosine
    positions), which spread a narrow one's features more than timm's normal of 0.02. The paper's positions stay fixed;
    these learn on, as timm's do, so that a training from other weights adapts them, and so may a sum's other terms.
    """

    class Config(ObjectiveConfig):
        mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches that are hidden.")
        normalise_target: bool = Field(True, description="Predict each patch normalised by its own mean and variance.")
        decoder: MAEDecoder.Config = Field(MAEDecoder.Config(), description="The decoder.")

    views = one_crop()
    takes = ONE_VIEW
    family = "masked image modelling"
    suits = "vit"
    batch = BatchNeed(32, 4096)
    first_weights = "mae"
    small = small_recipe({"decoder": {"dim": 64, "depth": 2, "heads": 4}}, steps=1000)

    def build(self, backbone: Backbone) -> None:
        self.decoder = MAEDecoder(backbone.token_dim, backbone.patch**2 * 3, self.config.decoder)

    def forward(self, batch: Views, state: StepState) -> Losses:
        target = patchify(batch.crops, self.backbone.patch)
        _, N, P = target.shape
        keep = random_keep(batch.rows, N, self.config.mask_ratio, seed=state.seed, epoch=state.epoch)
        keep, places = (indices.to(batch.crops.device) for indices in (keep, hidden_indices(keep, N)))
        tokens = self.backbone.tokens(batch.crops, keep=keep)
        prefix = None if tokens.cls is None else tokens.cls.unsqueeze(1)
        predicted = self.decoder(prefix, tokens.patches, keep, places, tokens.grid)
        target = target.gather(1, places.unsqueeze(-1).expand(-1, -1, P))
        if self.config.normalise_target:
            target = normalised_patches(target)
        return Losses((predicted - target).square().mean(), tokens.pooled)
