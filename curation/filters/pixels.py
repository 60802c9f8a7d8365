"""Scores of one picture's pixels, all from one decode at a reduced scale.

The working picture has a shorter side of 240 to 479 pixels where the picture itself is that large: JPEGs are decoded
at a power of two of their size, and whatever is still larger is averaged over blocks of whole pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.decoding import decode
from curation.filters.text_share import text_share

WORKING_SIDE = 240

SCORES = ("low_information", "near_blank", "dark", "bright", "blur", "text", "greyscale", "few_colours")
"""What `pixel_scores` gives; each is described in `curation.filters.checks`."""

_BLUR_WINDOW, _NOISE = 9, np.uint8(2)  # pixels, grey levels
_PLAIN = 8  # grey levels that a picture without anything to see spans at most


def working_picture(data: bytes, orientation: int = 1) -> Image.Image:
    """An encoded picture, upright in RGB, at the working scale. Raises DecodeError."""
    picture = decode(data, orientation=orientation, draft_size=WORKING_SIDE)
    factor = min(picture.size) // WORKING_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def pixel_scores(picture: Image.Image) -> dict[str, float]:
    """The `SCORES` of a working picture."""
    luma = picture.convert("L")
    grey = np.asarray(luma)
    shares = np.array(luma.histogram(), np.float64) / (luma.width * luma.height)
    values = np.arange(256)
    mean = float(shares @ values)
    below = np.cumsum(shares)
    return {
        "low_information": _entropy(shares),
        "near_blank": float(np.sqrt(shares @ (values - mean) ** 2)) / 255,
        "dark": _percentile(below, 0.99),
        "bright": _percentile(below, 0.01),
        "blur": blur_effect(grey),
        "text": text_share(grey),
        **_colour_scores(picture),
    }


def blur_effect(luma: NDArray[np.uint8]) -> float:
    """How little of a picture's detail a further blur would take: 0 sharp, 1 blurred, NaN for a plain colour.

    After Crété, Dolmiere, Ladret, Nicolas, "The blur effect: perception and estimation with a new no-reference
    perceptual blur metric", 2007: the share of the differences between neighbouring pixels that survives a mean over 9
    pixels, along each axis; the blurrier axis counts. Differences of up to 2 grey levels are no detail here but the
    noise of JPEG. luma: (H, W). On 640 x 480 photographs the share above .65 is .01 as they are, .5 after a
    Gaussian of sigma 2 and .98 after one of sigma 4.
    """
    survivals = [share for along in (luma, np.ascontiguousarray(luma.T)) if (share := _survival(along)) is not None]
    plain = int(luma.max()) - int(luma.min()) <= _PLAIN
    return max(survivals, default=float("nan") if plain else 1.0)


def _survival(luma: NDArray[np.uint8]) -> float | None:
    """Share of the detail along the first axis that a mean over 9 pixels leaves, or None without any.

    Neighbours' means differ by the two pixels that they don't share, so that no mean has to be taken.
    """
    padded = luma[_mirrored(len(luma))]
    near, far = _differences(luma[1:], luma[:-1]), _differences(padded[_BLUR_WINDOW:], padded[:-_BLUR_WINDOW])
    detail = np.multiply(np.maximum(near, _NOISE) - _NOISE, _BLUR_WINDOW, dtype=np.uint16)
    total = int(detail.sum(dtype=np.int64))
    if total == 0:
        return None
    lost = int(np.maximum(detail, far).sum(dtype=np.int64)) - int(far.sum(dtype=np.int64))
    return 1 - lost / total


@lru_cache(maxsize=1024)
def _mirrored(length: int) -> NDArray[np.intp]:
    """Places along an axis that goes on mirrored for half a window at both ends."""
    return np.pad(np.arange(length), _BLUR_WINDOW // 2, mode="symmetric")


def _differences(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Absolute differences, without leaving bytes."""
    return np.maximum(one, other) - np.minimum(one, other)


def _colour_scores(picture: Image.Image) -> dict[str, float]:
    """Scores of every second pixel of every second row."""
    half = picture.resize((-(-picture.width // 2), -(-picture.height // 2)), Image.Resampling.NEAREST)
    red, green, blue = (np.asarray(channel) for channel in half.split())
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    chromas = np.cumsum(np.bincount(chroma.ravel(), minlength=256)) / chroma.size
    bins = np.left_shift(red >> 5, 6, dtype=np.uint16) + ((green >> 5 << 3) + (blue >> 5))
    colours = np.bincount(bins.ravel(), minlength=512) / bins.size
    return {"greyscale": _percentile(chromas, 0.99), "few_colours": _entropy(colours)}


def _entropy(shares: NDArray[np.float64]) -> float:
    """Shannon entropy in bits."""
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum()) + 0.0


def _percentile(below: NDArray[np.float64], share: float) -> float:
    """The smallest of 256 levels, as a share of 255, that at least `share` of the pixels don't pass."""
    return float(np.searchsorted(below, share - 1e-12)) / 255
