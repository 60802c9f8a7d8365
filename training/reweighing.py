"""Row weights that an objective changes while it trains."""

from __future__ import annotations

import hashlib

import torch

from training.loader import Loader
from training.objectives.base import Objective
from training.process_group import gather_over_ranks


def reweighs(objective: Objective) -> bool:
    """Whether the objective may give new row weights between epochs."""
    return type(objective).row_weights is not Objective.row_weights


def reweigh(objective: Objective, loader: Loader, epoch: int) -> None:
    """Let the rows of an epoch that has not begun, and of later ones, be drawn as `Objective.row_weights` says.

    Raises ValueError where ranks say different things, or the weights do not fit the rows.
    """
    found = objective.row_weights(epoch)
    weights = None if found is None else found.detach().double().cpu().numpy()
    said = hashlib.sha256(b"" if weights is None else weights.tobytes()).digest()[:7]
    device = next(objective.parameters()).device
    digests = gather_over_ranks(torch.tensor([int.from_bytes(said, "little")], device=device))
    if len(digests.unique()) > 1:
        raise ValueError(
            f"the row weights of epoch {epoch} differ between ranks: row_weights of {type(objective).__name__} has to "
            "return the same everywhere, so gather what the ranks saw before (training.process_group)"
        )
    if weights is not None:
        loader.set_weights(epoch, weights)
