"""Heads that objectives put on a backbone and throw away after training."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.decoder_block import DecoderBlock
from training.positions import sine_cosine_positions
from training.prototypes import Prototypes


class MLPHead(nn.Module):
    """Linear layers with a norm and an activation between them, and where asked a batch norm without shift at the end.

    With that norm it is SimCLR's public projector (Chen et al., 2020, arXiv:2002.05709) and MoCo v3's heads
    (arXiv:2104.02057), without it the projectors of BYOL (arXiv:2006.07733), Barlow Twins (arXiv:2103.03230), VICReg
    (arXiv:2105.04906), SwAV (arXiv:2006.09882), and MSN with GELU (arXiv:2204.07141): (B, D) -> (B, out).
    Batch norms are over the global batch (see `training.norms`).
    """

    class Config(BaseModel):
        """Shape of the head."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        layers: int = Field(2, ge=1, le=8, description="Linear layers.")
        hidden: int = Field(2048, ge=1, description="Width of the hidden layers.")
        out: int = Field(128, ge=1, description="Width of the output.")
        output_norm: bool = Field(True, description="Batch norm without shift after the last layer.")
        activation: Literal["relu", "gelu"] = Field("relu", description="After each hidden layer's batch norm.")

    def __init__(self, dim: int, config: Config) -> None:
        super().__init__()
        widths = [dim, *[config.hidden] * (config.layers - 1)]
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            active = nn.ReLU(inplace=True) if config.activation == "relu" else nn.GELU()
            parts += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), active]
        parts.append(nn.Linear(widths[-1], config.out, bias=False))
        if config.output_norm:
            parts.append(nn.BatchNorm1d(config.out, affine=False))
        self.stack = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x)


class DINOHead(nn.Module):
    """An MLP with GELU, a narrow last layer, and cosines with prototypes: (..., D) -> (..., prototypes).

    From Caron et al., 2021, arXiv:2104.14294, appendix C; no batch norm, so rows do not depend on each other. iBOT
    and DINOv2 take it for class tokens and patches alike.
    """

    class Config(BaseModel):
        """Shape of the head."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        layers: int = Field(3, ge=1, le=8, description="Linear layers before the prototypes.")
        hidden: int = Field(2048, ge=1, description="Width of the hidden layers.")
        bottleneck: int = Field(256, ge=1, description="Width of the features that are compared with prototypes.")
        prototypes: int = Field(65536, ge=2, description="Prototypes; some thousands suit some thousand images.")

    def __init__(self, dim: int, config: Config) -> None:
        super().__init__()
        widths = [dim, *[config.hidden] * (config.layers - 1), config.bottleneck]
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            parts += [nn.Linear(before, after), nn.GELU()]
        self.stack = nn.Sequential(*parts[:-1])
        for layer in self.stack:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)  # DINO's 0.02 at its width of 2048
                nn.init.zeros_(layer.bias)
        self.prototypes = Prototypes(config.bottleneck, config.prototypes)

    def embedded(self, x: Tensor) -> Tensor:
        """(..., D) to (..., bottleneck): what is compared with the prototypes."""
        return self.stack(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.prototypes(self.embedded(x))


class MAEDecoder(nn.Module):
    """A narrow transformer that sees encoded visible tokens, has mask tokens for the others, and predicts those.

    From He et al., 2021, arXiv:2111.06377: fixed sine-cosine positions, as many outputs as a patch has values.
    """

    class Config(BaseModel):
        """Shape of the decoder."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        dim: int = Field(512, ge=4, multiple_of=4, description="Width of the decoder's tokens.")
        depth: int = Field(8, ge=1, description="Transformer blocks of the decoder.")
        heads: int = Field(16, ge=1, description="Attention heads of the decoder; divides its width.")

    def __init__(self, token_dim: int, outputs: int, config: Config) -> None:
        super().__init__()
        if config.dim % config.heads:
            raise ValueError(f"decoder.heads: {config.heads} does not divide decoder.dim {config.dim}")
        self.embed = nn.Linear(token_dim, config.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.blocks = nn.Sequential(
            *[DecoderBlock(config.dim, config.heads, qkv_bias=True) for _ in range(config.depth)]
        )
        self.norm = nn.LayerNorm(config.dim)
        self.predict = nn.Linear(config.dim, outputs)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self, prefix: Tensor | None, visible: Tensor, keep: Tensor, hidden: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """(B, M, outputs) for the patches `hidden` (B, M).

        visible: (B, K, token_dim) features of the patches `keep` (B, K). prefix: (B, P, token_dim) tokens without a
        place, such as a class token.
        """
        seen = self.embed(visible)
        places = sine_cosine_positions(grid, seen.shape[-1]).to(seen.device, seen.dtype)
        seen = seen + places[keep]
        if prefix is not None:
            seen = torch.cat([self.embed(prefix), seen], dim=1)
        masked = self.mask_token[0].to(seen.dtype) + places
        x = torch.cat([seen, F.embedding(hidden, masked)], dim=1)
        for number, block in enumerate(self.blocks, 1):
            last = hidden.shape[1] if number == len(self.blocks) else None
            x = block(x, last, (masked, hidden) if number == 1 else None)
        return self.predict(self.norm(x))
