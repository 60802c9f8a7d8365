import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.fft import dctn
from sklearn.datasets import load_sample_image

from curation.hashing import gray32, phash, phash_arrays
from tests.stages.pool import emoji_bytes, reencoded


def bits(a: bytes, b: bytes) -> int:
    return int(np.bitwise_count(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).sum())


@pytest.fixture(scope="module")
def china() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg"))


def test_bits_are_those_of_an_independent_dct(china):
    gray = gray32(china)
    low = np.round(dctn(gray.astype(np.float64), norm="ortho")[:8, :8] / 8)
    expected = low.ravel() >= np.median(low.ravel()[1:])
    assert np.array_equal(np.unpackbits(np.frombuffer(phash(china), np.uint8)).astype(bool), expected)


def test_batch_equals_single(china):
    pictures = [china, china.transpose(Image.Transpose.ROTATE_90), china.filter(ImageFilter.GaussianBlur(3))]
    batch = phash_arrays(np.stack([gray32(picture) for picture in pictures]))
    assert [row.tobytes() for row in batch] == [phash(picture) for picture in pictures]


def test_survives_resizing_and_jpeg_but_not_another_picture(china):
    small = china.resize((213, 142), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=60)
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    assert bits(phash(china), phash(Image.open(buffer))) <= 4
    assert bits(phash(china), phash(flower)) >= 16


def test_symmetric_drawings_survive_jpeg():
    from curation.decoding import decode

    items = emoji_bytes(120)
    distances = [bits(phash(decode(data)), phash(decode(reencoded(data, 75)))) for _, _, data in items]
    assert np.mean(np.array(distances) <= 4) > 0.95


def test_a_flat_picture_has_a_stable_hash():
    assert {phash(Image.new("L", (50, 50), shade)) for shade in (10, 100, 255)} == {b"\xff" * 8}


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="32"):
        phash_arrays(np.zeros((4, 16, 16)))
