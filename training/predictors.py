"""Predictors of patch features: transformers that are told where to look."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from training.positions import sine_cosine_positions


class BlockPredictor(nn.Module):
    """A narrow transformer that predicts the features of target blocks from those of a context.

    From I-JEPA (Assran et al., 2023, arXiv:2301.08243, section 3): each target block by itself, as mask tokens with
    fixed sine-cosine positions beside the context's tokens.
    """

    class Config(BaseModel):
        """Shape of the predictor."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        dim: int = Field(384, ge=4, multiple_of=4, description="Width of its tokens.")
        depth: int = Field(6, ge=1, description="Transformer blocks; the paper has 6 for ViT-B, 12 for larger ones.")
        heads: int = Field(12, ge=1, description="Attention heads; divides its width.")

    def __init__(self, token_dim: int, config: Config) -> None:
        super().__init__()
        if config.dim % config.heads:
            raise ValueError(f"predictor.heads: {config.heads} does not divide predictor.dim {config.dim}")
        self.embed = nn.Linear(token_dim, config.dim)
        self.mask_token = nn.Parameter(torch.zeros(config.dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.blocks = nn.Sequential(*[Block(config.dim, config.heads, qkv_bias=True) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim)
        self.predict = nn.Linear(config.dim, token_dim)

    def forward(
        self, prefix: Tensor | None, tokens: Tensor, context: Tensor, targets: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """(B, M, T, token_dim) predictions.

        tokens: (B, K, token_dim) features of the patches `context` (B, K). targets: (B, M, T) patches to predict.
        prefix: (B, P, token_dim) tokens without a place, such as a class token, which learns by joining in.
        """
        B, M, T = targets.shape
        seen = self.embed(tokens)
        places = sine_cosine_positions(grid, seen.shape[-1]).to(seen.device, seen.dtype)
        seen = seen + places[context]
        if prefix is not None:
            seen = torch.cat([self.embed(prefix), seen], dim=1)
        wanted = self.mask_token.to(seen.dtype) + places[targets]  # (B, M, T, D)
        sequence = torch.cat([seen.unsqueeze(1).expand(-1, M, -1, -1), wanted], dim=2).flatten(0, 1)
        decoded = self.norm(self.blocks(sequence))[:, -T:]
        return self.predict(decoded).unflatten(0, (B, M))
