"""KoLeo beside the losses that assign features to prototypes, for data on which these alone stay on their plateau."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from training.losses.koleo import koleo_of_views
from training.objectives.base import ObjectiveConfig


class SpreadingConfig(ObjectiveConfig):
    """Parameters of an objective whose features may be spread.

    Targets that come from assignments to prototypes first teach what an untrained network sees already, colours above
    all, under every distortion. Within some hundred steps little else follows, unless features are held apart.
    """

    koleo_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of DINOv2's KoLeo, which spreads the full crops' features; 0: none, as in the paper.",
    )

    def spread(self, loss: Tensor, terms: dict[str, Tensor], views: Sequence[Tensor]) -> Tensor:
        """The loss with KoLeo of (B, D) features of each full-size view, which is noted in `terms`."""
        if not self.koleo_weight:
            return loss
        spread = koleo_of_views(views)
        terms["koleo"] = spread.detach()
        return loss + self.koleo_weight * spread
