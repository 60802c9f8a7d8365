"""What an evaluation knows of one split: images, features, what the probes say, and a few pictures' patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifact import Artifact
from stages.evaluate.split import Split
from training.evaluation.probe import Predictions


@dataclass(frozen=True)
class TokenSamples:
    """A few images, chosen by hash, with what the backbone makes of their patches.

    ids: (n) image ids. pixels: (n, S, S, 3) uint8, as the backbone's own preprocessing squeezes them.
    patches, untrained_patches: (n, rows, columns, D) float32 of the last layer, after its norm; the last feature map
    of at least 4 x 4 cells stands in for patch tokens. attention: (n, heads, rows, columns) float32 weights of
    the class token (without one: of the mean token) on each patch in the last block, or None where nothing attends.
    norms: (n, rows, columns) float32 lengths of the same, before the norm after them.
    """

    ids: list[str]
    pixels: NDArray[np.uint8]
    patches: NDArray[np.float32]
    untrained_patches: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    norms: NDArray[np.float32]


@dataclass(frozen=True)
class SegmentedSamples:
    """A few images with masks, and what linear probes on patches make of them.

    ids: (n). pixels: (n, S, S, 3) uint8. numbers: class numbers of the masks by their place. truth, trained,
    untrained: (n, rows, columns) uint8 places, 255 where no pixel counts.
    """

    ids: list[str]
    pixels: NDArray[np.uint8]
    numbers: list[int]
    truth: NDArray[np.uint8]
    trained: NDArray[np.uint8]
    untrained: NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluated:
    """One split, measured.

    images: the artifact that holds its images. features: (bank + queries, D) by contestant, rows in the order of
    `[*split.bank, *split.queries]`. predictions: by contestant; empty without labels. record: all that
    `metrics.json` says of the split. samples: None where the backbone has no patches to show. seed: of the stage.
    segmented: None without masks.
    """

    images: Artifact
    split: Split
    features: Mapping[str, NDArray[np.float32]]
    predictions: Mapping[str, Predictions]
    record: Mapping[str, Any]
    samples: TokenSamples | None
    seed: int
    segmented: SegmentedSamples | None = None
