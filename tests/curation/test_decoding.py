import io
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from curation.decoding import DecodeError, decode


@pytest.fixture(scope="module")
def china() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg")).resize((160, 107))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_lossless_rgb_comes_back_exactly(china):
    assert np.array_equal(np.asarray(decode(encoded(china))), np.asarray(china))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparent_pixels_take_the_background(mode, china):
    layer = china.convert("RGBA")
    layer.putalpha(Image.fromarray(np.where(np.arange(107)[:, None] < 50, 0, 255).astype(np.uint8).repeat(160, 1)))
    if mode == "P":
        data = encoded(china.quantize(16), transparency=bytes([0] * 16))
        picture = np.asarray(decode(data, background=(1, 2, 3)))
        assert (picture == (1, 2, 3)).all()
        return
    data = encoded(layer.convert(mode), "TIFF" if mode == "PA" else "PNG")
    picture = np.asarray(decode(data, background=(255, 255, 255)))
    assert picture.shape == (107, 160, 3)
    assert (picture[:50] == 255).all()
    assert picture[50:].std() > 10


def test_sixteen_bit_grey_uses_its_full_range():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    picture = np.asarray(decode(encoded(Image.fromarray(ramp))))
    assert picture[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "YCbCr"])
def test_other_modes_become_rgb(mode, china):
    picture = decode(encoded(china.convert(mode), "TIFF"))
    grey, expected = np.asarray(picture.convert("L"), float), np.asarray(china.convert("L"), float)
    assert picture.mode == "RGB"
    assert np.abs(grey.mean() - expected.mean()) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_undoes_what_a_camera_did(orientation, china):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(china, exif=exif.tobytes())
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(decode(data, orientation=orientation)), np.asarray(expected))


def test_draft_shrinks_but_not_below_the_size_asked_for():
    large = Image.fromarray(load_sample_image("china.jpg"))
    picture = decode(encoded(large, "JPEG"), draft_size=64)
    assert picture.size == (160, 107)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: b"", "empty"),
        (lambda data: b"<html>not found</html>", "not_an_image"),
        (lambda data: data[: len(data) // 2], "truncated"),
    ],
)
def test_bad_bytes_give_a_reason_code(spoil, code, china):
    with pytest.raises(DecodeError) as caught:
        decode(spoil(encoded(china, "JPEG")))
    assert caught.value.reason_code == code
    assert pickle.loads(pickle.dumps(caught.value)).reason_code == code


def test_corrupt_png_is_an_error_and_never_another_exception(china):
    data = bytearray(encoded(china))
    outcomes = set()
    for position in range(8, len(data), 997):
        broken = data.copy()
        broken[position] ^= 0xFF
        try:
            decode(bytes(broken))
            outcomes.add("read")
        except DecodeError as error:
            outcomes.add(error.reason_code)
    assert outcomes - {"read"}


def test_large_pictures_are_refused_from_the_header(china):
    with pytest.raises(DecodeError, match="160 x 107") as caught:
        decode(encoded(china), max_pixels=160 * 107 - 1)
    assert caught.value.reason_code == "too_many_pixels"
    assert decode(encoded(china), max_pixels=160 * 107).size == (160, 107)
