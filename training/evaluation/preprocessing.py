"""The preprocessing that travels with a checkpoint: an encoded image to the tensor that its backbone takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.decoding import upright_rgb

_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """A whole upright image resized to size x size, scaled to 0..1, normalised per channel.

    interpolation: "nearest" | "bilinear" | "bicubic" | "lanczos", with antialiasing. background: colour under
    transparent pixels.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    background: tuple[int, int, int]

    def square(self, data: bytes, orientation: int = 1) -> NDArray[np.uint8]:
        """(size, size, 3) pixels of an encoded image. Raises `training.decoding.UndecodableError`."""
        return self.fit(upright_rgb(data, orientation, self.background))

    def fit(self, image: Image.Image) -> NDArray[np.uint8]:
        """(size, size, 3) pixels of an upright RGB picture."""
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), _INTERPOLATION[self.interpolation])
        return np.asarray(image)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, size, size, 3) uint8 to (N, 3, size, size) float32."""
        scaled = pixels.astype(np.float32) / np.float32(255)
        normal = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def read_preprocessing(folder: Path) -> Preprocessing:
    """The preprocessing of a checkpoint folder, from `preprocessing.json`.

    Raises ValueError where the file is missing, incomplete, or of another image size than `config.json`: features by
    a guessed preprocessing measure the guess.
    """
    path = folder / "preprocessing.json"
    if not path.exists():
        raise ValueError("the checkpoint has no preprocessing.json; its features can't be computed by guessing it")
    preprocessing = parse_preprocessing(json.loads(path.read_text()))
    config = folder / "config.json"
    trained = json.loads(config.read_text()).get("image_size") if config.exists() else None
    if trained is not None and trained != preprocessing.size:
        raise ValueError(
            f"preprocessing.json resizes to {preprocessing.size} px, but config.json says that the backbone was "
            f"trained at {trained} px"
        )
    return preprocessing


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """Check and convert the values of a `preprocessing.json`. Raises ValueError with what is wrong."""
    missing = [name for name in ("size", "mean", "std", "interpolation", "background") if name not in values]
    if missing:
        raise ValueError(f"preprocessing.json lacks {', '.join(missing)}")
    if values["interpolation"] not in _INTERPOLATION:
        raise ValueError(f"interpolation '{values['interpolation']}' is none of {', '.join(_INTERPOLATION)}")
    mean, std, background = (_three(name, values[name]) for name in ("mean", "std", "background"))
    if min(std) <= 0 or int(values["size"]) < 1:
        raise ValueError(f"size and std have to be above zero, got {values['size']} and {values['std']}")
    red, green, blue = (int(value) for value in background)
    return Preprocessing(int(values["size"]), mean, std, str(values["interpolation"]), (red, green, blue))


def _three(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ValueError(f"{name} needs one value a channel, got {values}")
    return (float(values[0]), float(values[1]), float(values[2]))
