"""Token boosting: modules between transformer blocks that learn to take corruption out of features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NAME = "token_boost"


class TokenBoost(nn.Module):
    """One token boosting module (Li et al., 2023, arXiv:2304.04175).

    Features F = R + P carry an unknown corruption P. A synthetic one, Q = alpha * S with Gaussian S and learned
    alpha, is put on top: I = F + Q. An autoencoder g learns F from I, and the boosted features are an estimate of R:
    where P and Q are alike, E[R | I] = 2 E[F | I] - I (Moran et al., 2020, arXiv:1910.11908), so R^ = 2 g(I) - I.
    The paper leaves g's shape open to us: here g(I) = I + MLP(I) with a last layer that starts at zero, so that a
    new module only adds its noise. In evaluation mode Q is zero, and features are a function of the picture.
    """

    def __init__(self, dim: int, noise: float = 0.1) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((dim,), noise))
        self.norm = nn.LayerNorm(dim)
        self.encode = nn.Linear(dim, dim)
        self.decode = nn.Linear(dim, dim)
        nn.init.zeros_(self.decode.weight)
        nn.init.zeros_(self.decode.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) features to boosted ones, and the scalar reconstruction loss mean((F^ - F)^2)."""
        noisy = x + self.alpha * torch.randn_like(x) if self.training else x
        estimate = noisy + self.decode(nn.functional.gelu(self.encode(self.norm(noisy))))
        wide = torch.promote_types(x.dtype, torch.float32)
        loss = (estimate - x).to(wide).square().mean()
        return 2 * estimate - noisy, loss


class TokenBoosts(nn.Module):
    """Token boosting after some blocks of a backbone.

    places: numbers of the blocks that a module follows. weight: of the reconstruction losses' mean in the loss.
    """

    def __init__(self, places: Sequence[int], dim: int, weight: float = 1.0) -> None:
        super().__init__()
        self.places, self.weight = tuple(places), weight
        self.stack = nn.ModuleList([TokenBoost(dim) for _ in self.places])
        self._pending: list[Tensor] = []

    def after(self, block: int, x: Tensor, auxiliary: dict[str, Tensor]) -> Tensor:
        """Boost what block number `block` gave, where a module follows it; adds its loss to `auxiliary`."""
        if block not in self.places:
            return x
        x, loss = self.stack[self.places.index(block)](x)
        loss = self.weight / len(self.places) * loss
        auxiliary[NAME] = auxiliary[NAME] + loss if NAME in auxiliary else loss
        if loss.requires_grad and self.training:
            self._pending.append(loss)
        return x

    def take(self) -> dict[str, Tensor]:
        """The weighted loss of all passes with gradients since the last call, or nothing."""
        pending, self._pending = self._pending, []
        return {NAME: torch.stack(pending).sum()} if pending else {}


def default_places(depth: int) -> tuple[int, ...]:
    """Blocks at the quarters of a backbone, the last left out: boosted features are worked on further."""
    return tuple(sorted({max(0, depth * quarter // 4 - 1) for quarter in (1, 2, 3)}))
