"""What objectives and probes may ask of a backbone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class Tokens:
    """A backbone's output.

    pooled: (B, dim), pooled the way the model itself does before its classifier (class token, average, attention).
    patches: (B, N, token_dim), the patch tokens after the last norm, or the cells of a convnet's last feature map;
    N counts only the kept ones where tokens were dropped. grid: (rows, columns) of all patches of the image.
    cls: (B, token_dim) or None. registers: (B, R, token_dim) or None: never among the patches.
    hidden: for each layer asked for, the output of that block before the last norm: (B, prefix + N, token_dim) with
    class token and registers first, or (B, rows, columns, channels) for a stage of a feature-map model.
    auxiliary: losses that the backbone itself adds to a training, by name (see `Backbone.take_auxiliary`).
    """

    pooled: Tensor
    patches: Tensor
    grid: tuple[int, int]
    cls: Tensor | None = None
    registers: Tensor | None = None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    auxiliary: dict[str, Tensor] = field(default_factory=dict)

    @property
    def prefix(self) -> int:
        """Tokens before the patches in `hidden`."""
        return int(self.cls is not None) + (0 if self.registers is None else self.registers.shape[1])


class Backbone(nn.Module):
    """A vision model without its classifier.

    model: the library's own module; its state dict is what gets exported, and it loads in that library alone.
    dim: width of `Tokens.pooled`. token_dim: width of a patch token. patch: pixels along a patch's side, or the
    stride of the last feature map. channels: of an image. drops_tokens: whether patches can be dropped and masked.
    """

    model: nn.Module
    dim: int
    token_dim: int
    patch: int
    channels: int = 3
    drops_tokens: bool = False

    @abstractmethod
    def tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
        position_noise: Tensor | None = None,
        drop_positions: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> Tokens:
        """Run the model on (B, channels, H, W) normalised images, of any size that its patches tile.

        keep: (B, K) indices of the patches to process, in the order wanted; the others are dropped before the first
        block, and so is their work. mask: (B, N) true where `mask_token` (token_dim) replaces a patch's embedding.
        drop_positions: (B, N) true where a patch is to lose its position (learned and rotary).
        position_noise: (B, N, token_dim), or what broadcasts to it, added to the patches' learned positions after
        the dropping; so a learned "no position" token is noise at the dropped places.
        layers: blocks (or stages) whose output `Tokens.hidden` shall hold, counted from 0, or from -1 backwards.
        Raises ValueError where the model has no patch tokens or positions for what is asked.
        """

    def tokens_of(
        self,
        groups: Sequence[Tensor],
        keep: Sequence[Tensor | None] | None = None,
        mask: Sequence[Tensor | None] | None = None,
        mask_token: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Tokens]:
        """`tokens` of crops of several sizes: one tensor, one `keep` and one `mask` for each size.

        Backbones that can do all sizes in one packed pass override this; the result is the same.
        """
        keeps, masks = _for_each(groups, keep), _for_each(groups, mask)
        return [
            self.tokens(images, keep=k, mask=m, mask_token=None if m is None else mask_token, layers=layers)
            for images, k, m in zip(groups, keeps, masks, strict=True)
        ]

    def take_auxiliary(self) -> dict[str, Tensor]:
        """The backbone's own losses of all calls since the last time, summed by name; empty for most backbones."""
        return {}

    def forward(self, images: Tensor) -> Tokens:
        return self.tokens(images)


def _for_each(groups: Sequence[Tensor], given: Sequence[Tensor | None] | None) -> Sequence[Tensor | None]:
    return [None] * len(groups) if given is None else given
