"""KoLeo, the Kozachenko-Leonenko estimator of entropy as a regulariser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.losses.precision import full_precision
from training.process_group import gather_over_ranks, rank

_EPS = 1e-8


@full_precision
def koleo(features: Tensor, over_ranks: bool = True) -> Tensor:
    """Minus the mean log distance of each of (B, D) features, scaled to length 1, to its nearest neighbour.

    Spreads features over the sphere (Sablayrolles et al., arXiv:1806.03198, equation 2; DINOv2, arXiv:2304.07193).
    over_ranks: look for neighbours in the global batch, so that N ranks equal one; else in this rank's rows, as
    DINOv2 does. Equal features give a large finite value and a zero gradient. Raises ValueError for a batch of one.
    """
    features = F.normalize(features, dim=1)
    everything = gather_over_ranks(features) if over_ranks else features
    if len(everything) < 2:
        raise ValueError("KoLeo needs a batch of 2 images or more")
    first = rank() * len(features) if over_ranks else 0
    with torch.no_grad():
        similarity = features @ everything.T
        own = torch.arange(len(features), device=features.device).unsqueeze(1) + first
        nearest = similarity.scatter(1, own, -2.0).argmax(dim=1)
    distances = F.pairwise_distance(features, everything[nearest], eps=_EPS)
    return -(distances + _EPS).log().mean()


def koleo_of_views(views: Iterable[Tensor], over_ranks: bool = True) -> Tensor:
    """The sum over views, each (B, D), of `koleo` within the view: two views of an image are to be neighbours."""
    return torch.stack([koleo(view, over_ranks) for view in views]).sum()
