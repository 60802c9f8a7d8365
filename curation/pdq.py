"""PDQ, a 256-bit perceptual hash with a quality and the hashes of the turned and mirrored picture.

Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019: luma, a tent filter (two
passes of a box), 64 x 64 samples, the 16 x 16 lowest frequencies of a DCT without the constant ones, one bit each by
their median. Everything before the bits is linear, so that filter and samples of one axis are one step.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

SIDE = 64
BITS = 256
SHORTEST_SIDE = 5
"""Pictures with a shorter side have no hash."""

MATCH_RADIUS, USABLE_QUALITY = 31, 50
"""Two pictures match within so many bits; a hash of lower quality says nothing."""

FORMS = (
    "upright", "rotated 90", "rotated 180", "rotated 270", "flipped top-bottom", "flipped left-right", "transposed",
    "transverse",
)  # fmt: skip
"""The pictures whose hashes `dihedral_hashes` gives, in its order; rotations are counter-clockwise."""

_LOW = 16


def _dct_rows() -> NDArray[np.float32]:
    frequency = np.arange(1, _LOW + 1)[:, None]
    return (np.sqrt(2 / SIDE) * np.cos(np.pi / (2 * SIDE) * frequency * (2 * np.arange(SIDE) + 1))).astype(np.float32)


_DCT = _dct_rows()
_SIGNS = np.where(np.arange(_LOW) % 2 == 0, -1, 1).astype(np.float32)


def shrunk(values: NDArray[np.generic], length: int, block: int = 1) -> NDArray[np.float32]:
    """PDQ's down-sampling along one axis: (ceil(length / block), W) values to (64, W).

    length: pixels of the picture along the axis. block: source pixels that one given pixel is the mean of, so that a
    picture that was decoded at a scale is sampled where the whole one would be.
    Two passes of a box of (length + 127) // 128 pixels, whose part over the edge is left out of the mean, then the
    pixels at the centres of 64 equal cells.
    """
    places, weights = _taps(length, block)
    # Of the few pixels that each sample sees, so that no matrix is large enough for BLAS to wake its threads.
    found: NDArray[np.float32] = weights[:, None, :] @ values[places].astype(np.float32, copy=False)
    return found[:, 0]


@functools.lru_cache(maxsize=512)
def _taps(length: int, block: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places (64, K) of the pixels that each sample sees, and their weights (64, K)."""
    window = (length + 2 * SIDE - 1) // (2 * SIDE)
    centres = ((np.arange(SIDE) + 0.5) * length / SIDE).astype(np.int64)
    first, last = _box(centres, window, length)
    middles = first[:, None] + np.arange(window)
    rows, columns = np.nonzero(middles < last[:, None])
    start, end = _box(middles[rows, columns], window, length)
    share = 1 / ((last - first)[rows] * (end - start))
    left = centres - 2 * (window - 1 - window // 2)  # of the leftmost box that a sample sees
    steps = np.zeros((SIDE, 2 * window))
    np.add.at(steps, (rows, start - left[rows]), share)
    np.add.at(steps, (rows, end - left[rows]), -share)
    given = np.clip(left[:, None] + np.arange(2 * window), 0, length - 1) // block
    width = int((given[:, -1] - given[:, 0]).max()) + 1
    cells = np.arange(SIDE)[:, None] * width + given - given[:, :1]
    weights = np.bincount(cells.ravel(), np.cumsum(steps, axis=1).ravel(), minlength=SIDE * width)
    places = np.minimum(given[:, :1] + np.arange(width), (length - 1) // block)
    return places, weights.reshape(SIDE, width).astype(np.float32)


def _box(centres: NDArray[np.int64], window: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel, and the one after the last, of the box around each centre; an even one reaches further right."""
    end = centres + window // 2 + 1
    return np.maximum(end - window, 0), np.minimum(end, length)


def sampled(luma: NDArray[np.generic], size: tuple[int, int], block: int = 1) -> NDArray[np.float32]:
    """The (64, 64) picture that PDQ hashes.

    luma: (height, width) values 0 to 255, of the picture itself, or of one where each pixel is the mean of `block` x
    `block` pixels (fewer at the right and lower edge). size: (width, height) of the picture itself.
    """
    return shrunk(shrunk(luma, size[1], block).T, size[0], block).T


def dihedral_hashes(samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    """PDQ of pictures and of their turned and mirrored forms: (N, 8, 32) uint8 in the order of `FORMS`.

    samples: (N, 64, 64). The bytes are those of the usual hexadecimal form, bit 255 first; bit 16 i + j is set where
    the coefficient of vertical frequency i + 1 and horizontal frequency j + 1 is above the median of the 256. A flip
    changes the sign of the odd frequencies, a transposition swaps the axes, so one DCT serves all forms.
    """
    upright = _DCT @ np.asarray(samples, np.float32) @ _DCT.T
    vertical, horizontal = upright * _SIGNS[:, None], upright * _SIGNS
    both = vertical * _SIGNS
    forms = np.stack(
        [upright, _swap(horizontal), both, _swap(vertical), vertical, horizontal, _swap(upright), _swap(both)], axis=1
    ).reshape(-1, 8, BITS)
    median = np.partition(forms, BITS // 2 - 1, axis=2)[..., BITS // 2 - 1, None]
    return np.packbits((forms > median)[..., ::-1], axis=2)


def _swap(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    return coefficients.swapaxes(1, 2)


def qualities(samples: NDArray[np.float32]) -> NDArray[np.int8]:
    """PDQ's quality of (N, 64, 64) samples: how much the picture shows, 0 to 100, (N,) int8."""
    steps = [np.trunc(np.diff(samples, axis=axis) * (100 / 255)) for axis in (1, 2)]
    total = sum(np.abs(step).sum(axis=(1, 2)) for step in steps)
    return np.minimum(total // 90, 100).astype(np.int8)
