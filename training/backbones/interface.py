"""What objectives and probes may ask of a backbone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Tokens:
    """A backbone's output.

    pooled: (B, dim), pooled the way the model itself does before its classifier.
    patches: (B, N, token_dim), the patch tokens after the last norm, or the cells of a convnet's last feature map;
    N counts only the kept ones where tokens were dropped. grid: (rows, columns) of all patches of the image.
    cls: (B, token_dim) or None. registers: (B, R, token_dim) or None.
    """

    pooled: Tensor
    patches: Tensor
    grid: tuple[int, int]
    cls: Tensor | None = None
    registers: Tensor | None = None


class Backbone(nn.Module):
    """A vision model without its classifier.

    dim: width of `Tokens.pooled`. token_dim: width of a patch token. patch: pixels along a patch's side, or the
    stride of the last feature map.
    """

    dim: int
    token_dim: int
    patch: int

    @abstractmethod
    def tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tokens:
        """Run the model on (B, 3, H, W) normalised images.

        keep: (B, K) indices of the patches to process, in the order wanted; the others are dropped before the first
        block, and so is their work. mask: (B, N) true where `mask_token` (token_dim) replaces a patch's embedding.
        Raises ValueError where the model has no patch tokens to drop or to replace.
        """

    def forward(self, images: Tensor) -> Tokens:
        return self.tokens(images)
