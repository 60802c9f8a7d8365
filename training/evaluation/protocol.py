"""The settings that make two results comparable, under one versioned name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """Everything about a measurement that is not the features and not the split.

    Two figures may be compared only where their protocol `id` is the same: one setting changed is a new id.

    neighbours, temperature: weighted kNN (Wu et al., 2018, arXiv:1805.01978), settings of DINO (arXiv:2104.14294).
    regularisations: inverse strengths C that the linear probe chooses from on `selection_share` of the
        training rows.
    rank_eps: added to the normalised singular values of RankMe (arXiv:2210.02885).
    confidence: of every interval. resamples: of every bootstrap. pixel_side: of the raw pixel baseline.
    """

    id: str
    neighbours: int = 20
    temperature: float = 0.07
    regularisations: tuple[float, ...] = tuple(10.0 ** (e / 2) for e in range(-10, 1))
    selection_share: float = 0.2
    rank_eps: float = 1e-7
    confidence: float = 0.95
    resamples: int = 1000
    pixel_side: int = 32

    def settings(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


V1 = Protocol(id="curatrain-v1")

PROTOCOLS = {protocol.id: protocol for protocol in (V1,)}
"""Every protocol by id. An id once used never changes its meaning."""
