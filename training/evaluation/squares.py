"""Encoded images as square pixels, and as the raw colours that backbones are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.decoding import UndecodableError, upright_rgb
from training.evaluation.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]


def decode_squares(
    images: Sequence[bytes], orientations: Sequence[int], preprocessing: Preprocessing
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Decode and resize encoded images.

    Returns (N, S, S, 3) pixels and (N,) whether each could be decoded; the pixels of those that couldn't are zero.
    """
    (pixels,), decoded = decode_sizes(images, orientations, [preprocessing])
    return pixels, decoded


def decode_sizes(
    images: Sequence[bytes], orientations: Sequence[int], wanted: Sequence[Preprocessing]
) -> tuple[list[Pixels], NDArray[np.bool_]]:
    """As `decode_squares`, of several preprocessings that share one background: each image is decoded once."""
    pixels = [np.zeros((len(images), of.size, of.size, 3), dtype=np.uint8) for of in wanted]
    decoded = np.ones(len(images), dtype=bool)
    for row, (data, orientation) in enumerate(zip(images, orientations, strict=True)):
        try:
            image = upright_rgb(data, orientation, wanted[0].background)
        except UndecodableError:
            decoded[row] = False
            continue
        for of, squares in zip(wanted, pixels, strict=True):
            squares[row] = of.fit(image)
    return pixels, decoded


def colours_of(background: tuple[int, int, int], side: int = 32) -> Preprocessing:
    """The squeeze to side x side pixels whose raw colours are a baseline."""
    return Preprocessing(side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", background)


def pixel_features(
    images: Sequence[bytes], orientations: Sequence[int], background: tuple[int, int, int], side: int = 32
) -> NDArray[np.float32]:
    """(N, 3 * side * side) raw colours in 0..1 of the images squeezed to side x side; zero where undecodable."""
    pixels, _ = decode_squares(images, orientations, colours_of(background, side))
    return unit_colours(pixels.reshape(len(images), -1))


def unit_colours(colours: Pixels) -> NDArray[np.float32]:
    """Colours of 0..255 as shares of full light."""
    return colours.astype(np.float32) / np.float32(255)
