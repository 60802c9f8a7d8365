import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.fft import dctn
from sklearn.datasets import load_sample_image

from curation.hashing import low_frequencies, phash, phash_codes
from curation.luma import luma_of
from tests.stages.pool import emoji_bytes, reencoded


def bits(a: bytes, b: bytes) -> int:
    return int(np.bitwise_count(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).sum())


@pytest.fixture(scope="module")
def china() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg"))


@pytest.mark.parametrize("size", [(640, 427), (250, 131), (129, 128), (64, 200), (31, 33), (7, 5)])
def test_bits_are_those_of_pillow_and_an_independent_dct(china, size):
    picture = china.resize(size).convert("L")
    luma = luma_of(picture)
    further = max(1, min(luma.image.size) // 64)
    box = (0, 0, size[0] / (luma.block * further), size[1] / (luma.block * further))
    grey = Image.fromarray(np.asarray(luma.image.reduce(further), np.float32))
    small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS, box), np.float64)
    low = dctn(small, norm="ortho")[:8, :8]
    assert np.allclose(low_frequencies(luma), low, atol=0.5)
    steps = np.round(low_frequencies(luma) / 8).ravel()
    expected = steps >= np.median(steps[1:])
    assert np.array_equal(np.unpackbits(np.frombuffer(phash(picture), np.uint8)).astype(bool), expected)


def test_batch_equals_single(china):
    pictures = [china, china.transpose(Image.Transpose.ROTATE_90), china.filter(ImageFilter.GaussianBlur(3))]
    batch = phash_codes(np.stack([low_frequencies(luma_of(picture)) for picture in pictures]))
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
