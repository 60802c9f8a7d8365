"""Encoded bytes to an upright RGB picture, or an error with a reason code that can be counted."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "JXL", "HEIF")
"""Formats by Pillow's names. All others are no pictures here: some start programs, some are drawings.

JPEG XL and HEIC need a plug-in that is installed besides (pillow-jxl-plugin, pillow-heif)."""

_PLUGINS = (("pillow_jxl", None), ("pillow_heif", "register_heif_opener"))
_FULL_RANGE = np.round(np.arange(65536) / 257.0).astype(np.uint8)


@functools.cache
def open_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that can be read here."""
    Image.init()
    for module, register in _PLUGINS:
        with contextlib.suppress(ImportError):
            plugin = importlib.import_module(module)
            if register:
                getattr(plugin, register)()
    return tuple(name for name in FORMATS if name in Image.OPEN)


class DecodeError(ValueError):
    """The bytes do not give a picture.

    reason_code: "empty" | "not_an_image" | "truncated" | "too_many_pixels" | "out_of_memory" | "corrupt" |
    "unsupported_mode".
    detail: what the decoder said.
    """

    def __init__(self, reason_code: str, detail: str) -> None:
        super().__init__(f"{reason_code}: {detail}")
        self.reason_code = reason_code
        self.detail = detail

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return (DecodeError, (self.reason_code, self.detail))


def decode(
    data: bytes,
    *,
    orientation: int = 1,
    background: tuple[int, int, int] = (255, 255, 255),
    draft_size: int | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Decode the first frame of an encoded image into an upright RGB picture.

    orientation: EXIF orientation 1..8 to apply (the file's own tag is not read).
    background: colour under transparent pixels.
    draft_size: let the JPEG decoder shrink by a power of two while both sides stay at least this long; faster,
        and not the same pixels as a full decode.
    max_pixels: refuse larger pictures from the header alone, before their pixels take memory.
    Raises DecodeError with a reason code.
    """
    if not data:
        raise DecodeError("empty", "no bytes")
    try:
        return upright(_flatten(_load(data, draft_size, max_pixels), background), orientation)
    except DecodeError:
        raise
    except UnidentifiedImageError:
        raise DecodeError("not_an_image", "no known image format") from None
    except Image.DecompressionBombError as error:
        raise DecodeError("too_many_pixels", str(error)) from None
    except MemoryError:
        raise DecodeError("out_of_memory", "decoding takes more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - Pillow's plug-ins raise whatever a broken file leads them to
        code = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise DecodeError(code, f"{type(error).__name__}: {error}") from None


def stored_mode(data: bytes) -> str:
    """Pillow's name of the pixels that a file holds, such as "L" or "RGB", where `decode` can read it."""
    return _opened(data).mode


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Apply an EXIF orientation 1..8."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _load(data: bytes, draft_size: int | None, max_pixels: int | None) -> Image.Image:
    image = _opened(data)
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise DecodeError("too_many_pixels", f"{width} x {height} is more than {max_pixels} pixels")
    if draft_size is not None:
        image.draft(None, (draft_size, draft_size))
    image.load()
    return image


def _opened(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=open_formats())


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image)
    if image.mode in ("La", "RGBa", "PA") or image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGB", layer.size, background)
        canvas.paste(layer, mask=layer.getchannel("A"))
        return canvas
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise DecodeError("unsupported_mode", f"{image.mode}: {error}") from None


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to RGB: 16-bit by its full range, the others by what fits their values."""
    stored = np.asarray(image)
    deep = image.mode == "I" and stored.size > 0 and 255 < stored.max() <= 65535 and stored.min() >= 0
    if image.mode.startswith("I;16") or deep:
        return Image.fromarray(_FULL_RANGE[stored]).convert("RGB")
    values = np.nan_to_num(stored.astype(np.float64))
    if values.min() < 0 or values.max() > 255:
        values = (values - values.min()) * (255.0 / max(np.ptp(values), 1e-12))
    elif image.mode == "F" and values.max() <= 1:
        values = values * 255.0
    return Image.fromarray(np.round(values).astype(np.uint8)).convert("RGB")
