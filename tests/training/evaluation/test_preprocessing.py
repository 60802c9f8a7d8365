"""The preprocessing that travels with a checkpoint."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from training.evaluation.preprocessing import parse_preprocessing, read_preprocessing
from training.evaluation.squares import decode_squares, pixel_features

VALUES = {
    "size": 24,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.5],
    "interpolation": "bilinear",
    "background": [255, 255, 255],
}


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_image("china.jpg"))


def test_resizes_and_normalises_as_torchvision_does(photo):
    from torchvision.transforms import v2

    reference = v2.Compose(
        [v2.ToImage(), v2.Resize((24, 24), antialias=True), v2.ToDtype(dtype=__import__("torch").float32, scale=True)]
    )
    preprocessing = parse_preprocessing(VALUES)
    pixels = preprocessing.square(encoded(photo))
    found = preprocessing.normalise(pixels[None])[0]
    expected = (reference(photo).numpy() - np.reshape(VALUES["mean"], (3, 1, 1))) / np.reshape(
        VALUES["std"], (3, 1, 1)
    )
    assert found.shape == (3, 24, 24)
    assert np.abs(found - expected).max() < 0.05


def test_orientation_and_background_are_applied(photo):
    preprocessing = parse_preprocessing({**VALUES, "background": [10, 20, 30]})
    turned = preprocessing.square(encoded(photo), orientation=3)
    np.testing.assert_array_equal(turned, preprocessing.square(encoded(photo.transpose(Image.Transpose.ROTATE_180))))
    clear = preprocessing.square(encoded(Image.new("RGBA", (24, 24), (200, 0, 0, 0))))
    assert (clear == [10, 20, 30]).all()


def test_broken_image_is_marked_and_the_others_are_not_touched(photo):
    preprocessing = parse_preprocessing(VALUES)
    good = encoded(photo, "JPEG")
    pixels, decoded = decode_squares([good, b"no image", good], [1, 1, 1], preprocessing)
    assert decoded.tolist() == [True, False, True]
    np.testing.assert_array_equal(pixels[0], pixels[2])
    assert pixels[0].any()
    assert not pixels[1].any()


def test_pixel_features_are_colours_between_nought_and_one(photo):
    features = pixel_features([encoded(photo)], [1], (255, 255, 255))
    expected = np.asarray(photo.resize((32, 32), Image.Resampling.BILINEAR), np.float32) / 255
    assert features.shape == (1, 3072)
    np.testing.assert_allclose(features[0], expected.ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "wavelet"}, "wavelet"),
        ({"std": [0.0, 1.0, 1.0]}, "above zero"),
        ({"mean": [0.5]}, "one value a channel"),
    ],
)
def test_senseless_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        parse_preprocessing({**VALUES, **change})


def test_missing_or_other_preprocessing_is_refused_rather_than_guessed(tmp_path):
    with pytest.raises(ValueError, match=r"no preprocessing\.json"):
        read_preprocessing(tmp_path)
    (tmp_path / "preprocessing.json").write_text(json.dumps({"size": 24}))
    with pytest.raises(ValueError, match="lacks mean, std"):
        read_preprocessing(tmp_path)
    (tmp_path / "preprocessing.json").write_text(json.dumps(VALUES))
    (tmp_path / "config.json").write_text(json.dumps({"image_size": 32}))
    with pytest.raises(ValueError, match="trained at 32 px"):
        read_preprocessing(tmp_path)
