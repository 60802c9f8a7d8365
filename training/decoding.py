"""Encoded bytes of a sample to a square canvas of pixels that crops are cut from.

JPEGs are decoded by libjpeg-turbo straight into the canvas. Whatever it does not take (other formats, CMYK, damaged
or odd files) goes through Pillow, which has the same decoder and gives the same bits for every JPEG that both take.
Both leave Python's lock while they work.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

WHITE = (255, 255, 255)

Pixels = NDArray[np.uint8]

_JPEG = b"\xff\xd8\xff"
_DIRECT = {"YCbCr", "Gray", "RGB"}
"""Colour spaces of JPEG files whose conversion to RGB is the same in both libraries."""

_MOST_SHRUNK = 8

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = 5
"""EXIF orientations from here on exchange width and height."""


class UndecodableError(ValueError):
    """The bytes of a sample are not a picture."""


@dataclass(frozen=True)
class Canvas:
    """A whole picture squeezed into a square: crops are cut by relative boxes, so its aspect is all that is needed.

    pixels: (3, size, size) uint8. aspect: width / height of the upright picture.
    """

    pixels: Pixels
    aspect: float


def canvas(data: bytes, orientation: int, size: int, background: tuple[int, int, int] = WHITE) -> Canvas:
    """Decode a sample into a `size` x `size` canvas (bicubic with antialiasing). Raises UndecodableError."""
    pixels = np.empty((size, size, 3), np.uint8)
    aspect = decode_into(pixels, data, orientation, background)
    return Canvas(np.ascontiguousarray(pixels.transpose(2, 0, 1)), aspect)


def decode_into(pixels: Pixels, data: bytes, orientation: int = 1, background: tuple[int, int, int] = WHITE) -> float:
    """Decode a sample into `pixels`, (size, size, 3) uint8 in C order, and return the upright picture's aspect.

    The decoder shrinks a JPEG by a power of two while both sides stay at least `size`; the rest is a bicubic resize
    with antialiasing. Raises UndecodableError, and leaves `pixels` in any state then.
    """
    size = len(pixels)
    found = _jpeg(data, pixels if orientation not in _UPRIGHT else None, size)
    if found is None:
        image = _rgb(data, background, size)
        found = np.asarray(image)
    height, width = found.shape[:2]
    if found is not pixels:
        pixels[:] = _turned(_resized(found, size), orientation)
    return height / width if orientation >= _TURNED and orientation in _UPRIGHT else width / height


def upright_rgb(data: bytes, orientation: int = 1, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Decode, put transparent pixels on `background`, and apply the EXIF orientation. Raises UndecodableError."""
    image = _rgb(data, background)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _jpeg(data: bytes, into: Pixels | None, size: int) -> Pixels | None:
    """Pixels of a JPEG, in `into` if it fits; None where Pillow has to decide."""
    if data[:3] != _JPEG:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in _DIRECT or height * width > (Image.MAX_IMAGE_PIXELS or np.inf):
            return None
        shrink = _shrunk(width, height, size)
        height, width = -(-height // shrink), -(-width // shrink)
        fits = into is not None and height == width == size
        found: Pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, buffer=into if fits else None
        )
    except ValueError:
        return None
    return into if fits else found


def _shrunk(width: int, height: int, size: int) -> int:
    """Largest power of two up to 8 by which a JPEG shrinks with both sides at least `size`; Pillow's draft rule."""
    ratio = min(width, height) // size
    return min(_MOST_SHRUNK, 1 << (ratio.bit_length() - 1)) if ratio else 1


def _rgb(data: bytes, background: tuple[int, int, int], least_side: int | None = None) -> Image.Image:
    """least_side: let the JPEG decoder shrink while both sides stay at least this long."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if least_side is not None:
            image.draft("RGB", (least_side, least_side))
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.new("RGB", layer.size, background)
            image.paste(layer, mask=layer.getchannel("A"))
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UndecodableError(f"{type(error).__name__}: {error}") from error


def _resized(pixels: Pixels, size: int) -> Pixels:
    """(H, W, 3) to (size, size, 3)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    planes = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1).unsqueeze(0)
    resized = interpolate(planes, size=(size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """A square canvas as its EXIF orientation wants it."""
    if orientation not in _UPRIGHT:
        return pixels
    if orientation >= _TURNED:
        pixels = pixels.transpose(1, 0, 2)
    across = orientation in (2, 3, 6, 7)
    down = orientation in (3, 4, 7, 8)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]
