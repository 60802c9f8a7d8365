"""What a pass over pictures is given: the backbones, how they are run, and the pictures, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.backbones.interface import Backbone
from training.decoding import Canvas, canvas
from training.evaluation.features import backbone_features, decode_squares
from training.evaluation.preprocessing import Preprocessing
from training.heads import MLPHead

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """backbones: "trained" and "untrained". projector: of the trained one, or None. batch: pictures of a forward pass.
    device: of torch."""

    backbones: Mapping[str, Backbone]
    projector: MLPHead | None
    preprocessing: Preprocessing
    batch: int
    device: str

    def features(self, contestant: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, dim) pooled features of (N, S, S, 3) pixels by one of the backbones."""
        return backbone_features(
            self.backbones[contestant], pixels, self.preprocessing, batch=self.batch, device=self.device
        )


@dataclass(frozen=True)
class Pictures:
    """Pictures that could be decoded, and (all) whether each one that was asked for could.

    ids, encoded, orientations, labels (-1: none), query: of those that could. squares: (N, S, S, 3) uint8 pixels.
    """

    ids: list[str]
    encoded: list[bytes]
    orientations: list[int]
    labels: NDArray[np.int64]
    query: NDArray[np.bool_]
    squares: NDArray[np.uint8]
    all: NDArray[np.bool_]

    def canvases(self, preprocessing: Preprocessing) -> list[Canvas]:
        """Squares of twice the backbone's side to cut crops from, as large as a training's own by default."""
        return [
            canvas(data, orientation, 2 * preprocessing.size, preprocessing.background)
            for data, orientation in zip(self.encoded, self.orientations, strict=True)
        ]


def decoded_pictures(rows: Mapping[str, list[Any]], preprocessing: Preprocessing) -> Pictures:
    """From the columns image_id, bytes, orientation, label and query."""
    squares, decoded = decode_squares(rows["bytes"], rows["orientation"], preprocessing)
    kept = np.flatnonzero(decoded)
    return Pictures(
        [rows["image_id"][n] for n in kept],
        [rows["bytes"][n] for n in kept],
        [rows["orientation"][n] for n in kept],
        np.array(rows["label"], np.int64)[kept],
        np.array(rows["query"], bool)[kept],
        squares[kept],
        decoded,
    )
