from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.training.samples import photographs
from training import decoding
from training.decoding import UndecodableError, canvas, decode_into, upright_rgb

SIDE = 64


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pixels(data: bytes, orientation: int = 1, side: int = SIDE) -> NDArray[np.int16]:
    return canvas(data, orientation, side).pixels.transpose(1, 2, 0).astype(np.int16)


def _by_pillow(data: bytes, side: int = SIDE) -> NDArray[np.int16]:
    """The same rule in Pillow alone: draft, then a bicubic resize."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (side, side))
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), np.int16)


@pytest.mark.parametrize("side", [32, 64, 100, 213, 427, 500])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 20}], ids=str)
def test_jpegs_are_as_pillow_decodes_them(side: int, options: dict[str, Any]) -> None:
    for photograph in photographs():
        data = _encoded(photograph, "JPEG", **options)
        assert decoding._jpeg(data, None, side) is not None
        assert np.abs(_pixels(data, side=side) - _by_pillow(data, side)).max() <= 2  # roundings of two passes


def test_a_jpeg_of_the_right_size_is_decoded_in_place_and_exactly() -> None:
    for mode in ("RGB", "L"):
        data = _encoded(photographs()[0].convert(mode).crop((0, 0, 96, 96)), "JPEG")
        pixels = np.zeros((96, 96, 3), np.uint8)
        assert decoding._jpeg(data, pixels, 96) is pixels
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_applied(orientation: int) -> None:
    image = photographs()[0].crop((0, 0, 128, 64))
    for kind in ("JPEG", "PNG"):
        data = _encoded(image, kind)
        found = canvas(data, orientation, SIDE)
        upright = upright_rgb(data, orientation)
        assert found.aspect == upright.width / upright.height
        expected = np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
        assert np.abs(found.pixels.transpose(1, 2, 0) - expected).max() <= 2


def test_transparency_shows_white() -> None:
    image = photographs()[0].resize((SIDE, SIDE)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    alpha = np.asarray(image, np.float64)[..., 3:] / 255
    expected = np.asarray(image, np.float64)[..., :3] * alpha + 255 * (1 - alpha)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert np.abs(_pixels(_encoded(image, kind, **options)) - expected).max() <= 1
    grey = image.convert("LA")
    assert _pixels(_encoded(grey, "PNG"))[0].min() == 255
    palette = photographs()[0].resize((SIDE, SIDE)).quantize(8)
    corner = np.asarray(palette)[0, 0]
    shown = _pixels(_encoded(palette, "PNG", transparency=int(corner)))
    assert (shown[np.asarray(palette) == corner] == 255).all()
    assert (shown[np.asarray(palette) != corner] < 255).any()


def test_palettes_and_first_frames() -> None:
    palette = photographs()[0].resize((SIDE, SIDE)).quantize(64)
    expected = np.asarray(palette.convert("RGB"), np.int16)
    assert np.array_equal(_pixels(_encoded(palette, "PNG")), expected)
    gif = _encoded(palette, "GIF", save_all=True, append_images=[Image.new("P", palette.size)])
    assert np.array_equal(_pixels(gif), expected)


def test_sixteen_bits_keep_their_range() -> None:
    grey = np.asarray(photographs()[0].convert("L").resize((SIDE, SIDE)))
    deep = Image.fromarray(grey.astype(np.uint16) * 256 + 17)
    assert np.array_equal(_pixels(_encoded(deep, "PNG"))[..., 0], grey)
    assert np.array_equal(_pixels(_encoded(deep, "TIFF"))[..., 0], grey)


def test_cmyk_goes_through_pillow() -> None:
    data = _encoded(photographs()[0].convert("CMYK").resize((SIDE, SIDE)), "JPEG")
    assert decoding._jpeg(data, None, SIDE) is None
    assert np.array_equal(_pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_damage_is_told() -> None:
    data = _encoded(photographs()[0], "JPEG")
    for broken in (data[: len(data) // 2], b"", b"junk", data[:3], _encoded(photographs()[0], "PNG")[:900]):
        with pytest.raises(UndecodableError):
            decode_into(np.zeros((SIDE, SIDE, 3), np.uint8), broken)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UndecodableError, match="DecompressionBomb"):
        canvas(_encoded(photographs()[0], "JPEG"), 1, SIDE)
