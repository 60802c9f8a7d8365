"""Encoded bytes of a sample to a square canvas of pixels that crops are cut from."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WHITE = (255, 255, 255)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UndecodableError(ValueError):
    """The bytes of a sample are not a picture."""


@dataclass(frozen=True)
class Canvas:
    """A whole picture squeezed into a square: crops are cut by relative boxes, so its aspect is all that is needed.

    pixels: (3, size, size) uint8. aspect: width / height of the upright picture.
    """

    pixels: NDArray[np.uint8]
    aspect: float


def upright_rgb(
    data: bytes, orientation: int = 1, background: tuple[int, int, int] = WHITE, least_side: int | None = None
) -> Image.Image:
    """Decode, put transparent pixels on `background`, and apply the EXIF orientation.

    least_side: let the JPEG decoder shrink by a power of two while both sides stay at least this long.
    Raises UndecodableError.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if least_side is not None:
            image.draft("RGB", (least_side, least_side))
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.new("RGB", layer.size, background)
            image.paste(layer, mask=layer.getchannel("A"))
        image = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UndecodableError(f"{type(error).__name__}: {error}") from error
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def canvas(data: bytes, orientation: int, size: int, background: tuple[int, int, int] = WHITE) -> Canvas:
    """Decode a sample into a `size` x `size` canvas (bicubic with antialiasing). Raises UndecodableError."""
    image = upright_rgb(data, orientation, background, least_side=size)
    aspect = image.width / image.height
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return Canvas(np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)), aspect)
