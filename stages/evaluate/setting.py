"""What a pass over pictures is given: the backbones, how they are run, and the pictures, decoded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.backbones.building import build_backbone
from training.backbones.interface import Backbone
from training.backbones.weights import load_backbone
from training.decoding import Canvas, canvas
from training.evaluation.features import backbone_features
from training.evaluation.preprocessing import Preprocessing, read_preprocessing
from training.evaluation.projector import load_projector
from training.evaluation.squares import colours_of, decode_sizes
from training.evaluation.untrained import open_branches_of
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


def read_setting(checkpoint: Path, batch: int, *, open_branches: bool, channels_last: bool) -> Setting:
    """The setting of a checkpoint's folder. open_branches: of the untrained backbone. channels_last: of both."""
    config = json.loads((checkpoint / "config.json").read_text())
    with torch.random.fork_rng(devices=[]):
        trained, untrained = load_backbone(checkpoint), build_backbone(config)
    if open_branches:
        open_branches_of(untrained)
    if channels_last:
        # Convolutions on CPUs are about twice as fast where the channels lie side by side.
        trained, untrained = (of.to(memory_format=torch.channels_last) for of in (trained, untrained))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    projector = load_projector(checkpoint, trained.dim)
    return Setting(
        {"trained": trained, "untrained": untrained}, projector, read_preprocessing(checkpoint), batch, device
    )


@dataclass(frozen=True)
class Pictures:
    """Pictures that could be decoded, and (all) whether each one that was asked for could.

    ids, encoded, orientations, labels (-1: none), query: of those that could. squares: (N, S, S, 3) uint8 pixels.
    colours: (N, side, side, 3) of them, where a side was given.
    """

    ids: list[str]
    encoded: list[bytes]
    orientations: list[int]
    labels: NDArray[np.int64]
    query: NDArray[np.bool_]
    squares: NDArray[np.uint8]
    all: NDArray[np.bool_]
    colours: NDArray[np.uint8] | None = None

    def canvases(self, preprocessing: Preprocessing) -> list[Canvas]:
        """Squares of twice the backbone's side to cut crops from, as large as a training's own by default."""
        return [
            canvas(data, orientation, 2 * preprocessing.size, preprocessing.background)
            for data, orientation in zip(self.encoded, self.orientations, strict=True)
        ]


def decoded_pictures(rows: Mapping[str, list[Any]], preprocessing: Preprocessing, side: int | None = None) -> Pictures:
    """From the columns image_id, bytes, orientation, label and query. side: of the colours."""
    wanted = [preprocessing, *([] if side is None else [colours_of(preprocessing.background, side)])]
    (squares, *colours), decoded = decode_sizes(rows["bytes"], rows["orientation"], wanted)
    kept = np.flatnonzero(decoded)
    return Pictures(
        [rows["image_id"][n] for n in kept],
        [rows["bytes"][n] for n in kept],
        [rows["orientation"][n] for n in kept],
        np.array(rows["label"], np.int64)[kept],
        np.array(rows["query"], bool)[kept],
        squares[kept],
        decoded,
        colours[0][kept] if colours else None,
    )
