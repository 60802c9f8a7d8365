"""The 64-bit DCT perceptual hash (pHash): a fingerprint that survives re-encoding and resizing."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.luma import Luma, luma_of

_SIDE = 32
_LOW = 8
_STEP = 8.0
_LOBES = 3


def _dct_rows() -> NDArray[np.float64]:
    """The first 8 rows of the orthonormal DCT-II matrix of size 32, shape (8, 32)."""
    frequency = np.arange(_LOW)[:, None]
    position = np.arange(_SIDE)[None, :]
    rows = np.cos(np.pi * frequency * (2 * position + 1) / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    rows[0] /= np.sqrt(2)
    return rows


_DCT = _dct_rows()


@functools.lru_cache(maxsize=512)
def _resized_dct(length: int, block: int) -> NDArray[np.float64]:
    """(8, ceil(length / block)): Lanczos resampling of `length` pixels to 32, then their DCT, of means of `block`."""
    spacing = length / block / _SIDE
    position = np.arange(-(-length // block)) + 0.5
    offset = (position - spacing * (np.arange(_SIDE)[:, None] + 0.5)) / max(spacing, 1)
    weights = np.where(np.abs(offset) < _LOBES, np.sinc(offset) * np.sinc(offset / _LOBES), 0)
    rows: NDArray[np.float64] = _DCT @ (weights / weights.sum(axis=1, keepdims=True))
    return rows


def low_frequencies(luma: Luma) -> NDArray[np.float64]:
    """The 8 x 8 lowest frequencies of the DCT of a picture at 32 x 32, (vertical, horizontal).

    The picture is averaged down to a shorter side of 64 or more, then resampled by Lanczos. That and the DCT are
    linear, hence one step.
    """
    further = max(1, min(luma.image.size) // (2 * _SIDE))
    grey = np.asarray(luma.image if further == 1 else luma.image.reduce(further), np.float64)
    (width, height), block = luma.size, luma.block * further
    found: NDArray[np.float64] = _resized_dct(height, block) @ grey @ _resized_dct(width, block).T
    return found


def phash_codes(frequencies: NDArray[np.float64]) -> NDArray[np.uint8]:
    """pHash of a batch of pictures from their `low_frequencies`, (N, 8, 8).

    Returns (N, 8) uint8, most significant bit first, bit index 8 * vertical + horizontal frequency. A bit is set where
    the coefficient, rounded to multiples of 8, is >= the median of the 63 coefficients without the DC one.
    """
    # Symmetric and flat pictures, most drawings among them, have many coefficients at zero, and so has their median:
    # without a coarse step the noise of JPEG would choose these bits. Measured on 400 drawings re-encoded at quality
    # 75, the share within 4 bits of the original rises from .83 to .99.
    steps = np.round(frequencies / _STEP).reshape(-1, _LOW * _LOW)
    median = np.median(steps[:, 1:], axis=1, keepdims=True)
    return np.packbits(steps >= median, axis=1)


def phash(image: Image.Image) -> bytes:
    """64-bit DCT perceptual hash of one upright image, as 8 bytes; compare by Hamming distance.

    Draw transparent pictures over a background before.
    """
    return phash_codes(low_frequencies(luma_of(image))[None])[0].tobytes()
