"""KoLeo beside the losses whose targets the network itself makes, for data on which these alone stay on a plateau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from training.losses.koleo import koleo_of_views
from training.objectives.base import ObjectiveConfig

Vectors = Sequence[Tensor]


class SpreadingConfig(ObjectiveConfig):
    """Parameters of an objective which may spread images apart.

    Targets that a network makes for itself first teach what an untrained one sees already, colours above all, under
    every distortion. Within some hundred steps little else follows, unless images are held apart: by their features,
    as in DINOv2, which suits vision transformers, or by what the head makes of them. Features of a convnet are none of
    them negative, so that those far apart share no feature, and a linear probe finds less in them than before.
    """

    koleo_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of DINOv2's KoLeo, which holds the full crops of images apart; 0: none, as in the paper.",
    )
    koleo_on: Literal["features", "head"] = Field(
        "features", description="What KoLeo holds apart: the backbone's features, or what the head makes of them."
    )

    def spread(self, loss: Tensor, terms: dict[str, Tensor], features: Vectors, head: Vectors) -> Tensor:
        """The loss with KoLeo of the features, or of the head's vectors, which is noted in `terms`.

        features, head: (B, D) of each full-size view.
        """
        if not self.koleo_weight:
            return loss
        spread = koleo_of_views(features if self.koleo_on == "features" else head)
        terms["koleo"] = spread.detach()
        return loss + self.koleo_weight * spread
