"""cleanvision's image issues on its own scales, so that its thresholds give the same verdicts here.

Written from the definitions and thresholds that its documentation publishes (https://github.com/cleanlab/cleanvision).
Scores run from 0, bad, to 1. All but the shapes are taken from the working picture of `curation.filters.pixels`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

PREFIX = "cleanvision_"

_LUMINANCE = (0.241, 0.691, 0.068, 0)  # of the squared channels, HSP colour model (Finley, 2006)
_BLUR_SIDE = 64
_SCALE = 0.01  # of edges and histograms, in grey levels and pixels
_FLAT = 0.18  # histogram scores up to this one do not speak for an image
_QUARTILE_REACH = 7.0  # interquartile ranges from the smallest to the largest usual size: 3 on either side, and 1


def cleanvision_scores(picture: Image.Image, mode: str, size: tuple[int, int]) -> dict[str, float]:
    """Scores by name, without those of the pool.

    picture: the working picture in RGB. mode: Pillow's name of the pixels that the file holds. size: of the file.
    """
    grey = mode == "L"
    dark, light = _brightness(picture)
    luma = picture.convert("L")
    scores = {
        "dark": dark,
        "light": 1 - light,
        "blurry": _sharpness(luma, size),
        "low_information": min(1.0, (luma if grey else picture).entropy() / 10),
        "grayscale": 0.0 if grey else 1.0,
        "odd_aspect_ratio": min(size) / max(size),
    }
    return {PREFIX + name: value for name, value in scores.items()}


def size_scores(areas: NDArray[np.floating]) -> NDArray[np.float64]:
    """How usual the side, the square root of the area (N,), is in the pool: 1 midway between the quartiles, .5 where
    it is 3 interquartile ranges beyond one. Where the quartiles are equal, any other side scores 0."""
    sides = np.sqrt(areas)
    low, high = np.percentile(sides, [25, 75]) if len(sides) else (0.0, 0.0)
    distances = np.abs(sides - (low + high) / 2)
    if high == low:
        return np.where(distances > 0, 0.0, 1.0)
    return 1 - np.minimum(1, distances / (_QUARTILE_REACH * (high - low)))


def _brightness(picture: Image.Image) -> tuple[float, float]:
    """Perceived brightness that 99 % and 5 % of the pixels, of every second one each way, do not pass."""
    half = picture.resize((-(-picture.width // 2), -(-picture.height // 2)), Image.Resampling.NEAREST)
    squares = ImageChops.multiply(half, half).convert("L", _LUMINANCE)
    below = np.cumsum(squares.histogram()) / (half.width * half.height)
    dark, light = np.searchsorted(below, [0.99 - 1e-12, 0.05 - 1e-12])
    return math.sqrt(dark / 255), math.sqrt(light / 255)


def _sharpness(luma: Image.Image, size: tuple[int, int]) -> float:
    """Strength of the edges at 64 pixels, plus how uneven the histogram of grey levels is there."""
    ratio = max(1.0, max(size) / _BLUR_SIDE)
    sides = [max(1, int(side // ratio)) for side in size]
    if (luma.width > luma.height) != (size[0] > size[1]):
        sides.reverse()
    small = luma.resize((sides[0], sides[1])) if ratio > 1 else luma
    edges = 1 - math.exp(-_SCALE * float(np.std(np.asarray(small.filter(ImageFilter.FIND_EDGES)))))
    uneven = 1 - math.exp(-_SCALE * float(np.std(small.histogram())))
    return min(1.0, edges + (uneven if uneven > _FLAT else 0))
