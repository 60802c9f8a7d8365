"""Vision transformers of any library: embed, drop, run the blocks (packed or not), pool."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.backbones.embedded import Embedded, kept, kept_rope, masked, perturbed_positions
from training.backbones.interface import Backbone, Tokens
from training.backbones.packing import Packing, accept_packing, is_packable
from training.backbones.token_boost import TokenBoosts


class TokenBackbone(Backbone):
    """A vision transformer whose patch tokens can be dropped, masked, moved and packed.

    has_cls: whether a class token leads. prefix: class token and registers. boosts: token boosting between blocks,
    or None; its tensors are outside `model`.
    """

    drops_tokens = True
    model: Any
    has_cls: bool
    prefix: int
    boosts: TokenBoosts | None

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.boosts = None
        self.packable = all(is_packable(block) for block in self.blocks)
        for block in self.blocks if self.packable else ():
            accept_packing(block)

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The model's own transformer blocks, in order."""

    @abstractmethod
    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, N, D) patch embeddings without positions, and their grid."""

    @abstractmethod
    def positions(self, grid: tuple[int, int]) -> Tensor | None:
        """(1, N, D) learned positions of a grid of any size, or None."""

    @abstractmethod
    def prefix_tokens(self) -> Tensor | None:
        """(1, prefix, D) class token and registers with their positions, or None."""

    def rope(self, grid: tuple[int, int]) -> Tensor | None:  # noqa: ARG002
        """Rotary positions of a grid: (N, 2 d), or (layers, heads, N, 2 d), or None."""
        return None

    def enter(self, embedded: Embedded) -> Embedded:
        """What the model does to the sequence between adding positions and its first block."""
        return embedded

    @abstractmethod
    def leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last norm and the model's own pooling: (B, L, D) features, (B, dim) pooled."""

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
        embedded = self._embedded(images, keep, mask, mask_token, position_noise, drop_positions)
        x = embedded.x
        hidden: dict[int, Tensor] = {}
        auxiliary: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks):
            rope = embedded.rope_of(number)
            x = self._through(block, x, **({} if rope is None else {"rope": rope}))
            if self.boosts is not None:
                x = self.boosts.after(number, x, auxiliary)
            hidden[number] = x
        return self._finished(x, embedded.grid, self._asked(hidden, layers), auxiliary)

    def tokens_of(
        self,
        groups: Sequence[Tensor],
        keep: Sequence[Tensor | None] | None = None,
        mask: Sequence[Tensor | None] | None = None,
        mask_token: Tensor | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Tokens]:
        if len(groups) < 2 or not self.packable:
            return super().tokens_of(groups, keep, mask, mask_token, layers)
        keeps, masks = keep or [None] * len(groups), mask or [None] * len(groups)
        embedded = [
            self._embedded(images, k, m, None if m is None else mask_token)
            for images, k, m in zip(groups, keeps, masks, strict=True)
        ]
        sizes = tuple((part.x.shape[0], part.x.shape[1]) for part in embedded)
        x = torch.cat([part.x.flatten(0, 1) for part in embedded]).unsqueeze(0)
        hidden: dict[int, Tensor] = {}
        auxiliary: dict[str, Tensor] = {}
        packing = Packing(sizes, self._packed_rope(embedded, 0))
        for number, block in enumerate(self.blocks):
            if number and embedded[0].rope_by_layer:
                packing = Packing(sizes, self._packed_rope(embedded, number))
            x = self._through(block, x, packing=packing)
            if self.boosts is not None:
                x = self.boosts.after(number, x, auxiliary)
            hidden[number] = x
        chosen = {layer: packing.split(value) for layer, value in self._asked(hidden, layers).items()}
        return [
            self._finished(part, e.grid, {layer: parts[g] for layer, parts in chosen.items()}, auxiliary)
            for g, (part, e) in enumerate(zip(packing.split(x), embedded, strict=True))
        ]

    def take_auxiliary(self) -> dict[str, Tensor]:
        return {} if self.boosts is None else self.boosts.take()

    def _embedded(
        self,
        images: Tensor,
        keep: Tensor | None,
        mask: Tensor | None,
        mask_token: Tensor | None,
        noise: Tensor | None = None,
        dropped: Tensor | None = None,
    ) -> Embedded:
        patches, grid = self.embed(images)
        patches = masked(patches, mask, mask_token)
        positions = perturbed_positions(self.positions(grid), noise, dropped)
        patches = kept(patches if positions is None else patches + positions, keep)
        lead = self.prefix_tokens()
        x = patches if lead is None else torch.cat([lead.expand(len(patches), -1, -1).to(patches.dtype), patches], 1)
        rope = self.rope(grid)
        if rope is None:
            return self.enter(Embedded(x, grid))
        by_layer = rope.ndim == 4
        return self.enter(Embedded(x, grid, kept_rope(rope, keep, dropped, by_layer), by_layer))

    def _packed_rope(self, embedded: Sequence[Embedded], layer: int) -> Tensor | None:
        if embedded[0].rope is None:
            return None
        return torch.cat([part.packed_rope(layer, self.prefix) for part in embedded])  # type: ignore[misc]

    def _through(self, block: nn.Module, x: Tensor, **options: Any) -> Tensor:
        if getattr(self.model, "grad_checkpointing", False) and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False, **options)
        return block(x, **options)

    def _asked(self, hidden: dict[int, Tensor], layers: Sequence[int] | None) -> dict[int, Tensor]:
        depth = len(self.blocks)
        wrong = [layer for layer in layers or () if not -depth <= layer < depth]
        if wrong:
            raise ValueError(f"this backbone has blocks 0 to {depth - 1}, not {', '.join(map(str, wrong))}")
        return {layer: hidden[layer % depth] for layer in layers or ()}

    def _finished(
        self, x: Tensor, grid: tuple[int, int], hidden: dict[int, Tensor], auxiliary: dict[str, Tensor]
    ) -> Tokens:
        features, pooled = self.leave(x)
        first = int(self.has_cls)
        return Tokens(
            pooled=pooled,
            patches=features[:, self.prefix :],
            grid=grid,
            cls=features[:, 0] if self.has_cls else None,
            registers=features[:, first : self.prefix] if self.prefix > first else None,
            hidden=hidden,
            auxiliary=auxiliary,
        )
