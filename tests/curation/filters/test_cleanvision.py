import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from curation.filters.cleanvision import cleanvision_scores, size_scores
from curation.filters.pixels import working_picture
from tests.curation.filters.test_pixels import jpeg
from tests.training.samples import photographs


def scores_of(picture: Image.Image) -> dict[str, float]:
    found = cleanvision_scores(working_picture(jpeg(picture)).convert("RGB"), picture.mode, picture.size)
    return {name.removeprefix("cleanvision_"): value for name, value in found.items()}


def perceived(picture: Image.Image) -> np.ndarray:
    """Brightness by the published formula, pixel by pixel at full size."""
    red, green, blue = np.asarray(picture, np.float64).transpose(2, 0, 1)
    return np.sqrt(0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2) / 255


@pytest.mark.parametrize("change", [lambda v: v, lambda v: v * 0.3, lambda v: min(255, 200 + v)])
def test_brightness_is_that_of_the_published_formula(change):
    for photograph in photographs():
        picture = photograph.point(change)
        found = scores_of(picture)
        assert found["dark"] == pytest.approx(np.percentile(perceived(picture), 99), abs=0.03)
        assert found["light"] == pytest.approx(1 - np.percentile(perceived(picture), 5), abs=0.03)


def test_the_scores_of_a_plain_grey_picture_by_hand():
    found = scores_of(Image.new("L", (100, 50), 102))
    assert found["dark"] == pytest.approx(0.4, abs=0.01)
    assert found["light"] == pytest.approx(0.6, abs=0.01)
    assert (found["low_information"], found["grayscale"], found["odd_aspect_ratio"]) == (0, 0, 0.5)
    histogram = np.bincount([102], minlength=256) * 64 * 32
    edges = np.pad(np.zeros((30, 62)), 1, constant_values=102)  # the filter leaves the border as it is
    assert found["blurry"] == pytest.approx(2 - np.exp(-histogram.std() / 100) - np.exp(-edges.std() / 100))


def test_entropy_counts_the_levels_of_each_channel_that_the_file_holds():
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:32] = (255, 90, 0)
    shares = np.array([1, 1, 1, 1, 2]) / 6  # two levels of red, two of green, one of blue
    found = cleanvision_scores(Image.fromarray(halves), "RGB", (64, 64))
    assert found["cleanvision_low_information"] == pytest.approx(-(shares * np.log2(shares)).sum() / 10)
    grey = Image.fromarray(halves[..., 0]).convert("RGB")
    assert cleanvision_scores(grey, "L", (64, 64))["cleanvision_low_information"] == pytest.approx(0.1)


def test_grey_levels_in_a_colour_file_are_no_grey_file():
    picture = photographs()[0].convert("L")
    assert scores_of(picture)["grayscale"] == 0
    assert scores_of(picture.convert("RGB"))["grayscale"] == 1


def test_blurred_pictures_score_lower_and_turned_ones_the_same():
    for picture in photographs():
        sharp, blurred = scores_of(picture), scores_of(picture.filter(ImageFilter.GaussianBlur(12)))
        assert blurred["blurry"] < sharp["blurry"]
        upright = cleanvision_scores(picture.rotate(90, expand=True), "RGB", picture.size)
        assert upright["cleanvision_blurry"] == pytest.approx(sharp["blurry"], abs=0.03)


def test_sizes_beyond_three_interquartile_ranges_are_odd():
    sides = np.array([100.0, 110, 120, 130, 140])  # quartiles 110 and 130
    scores = size_scores(np.append(sides, [189, 191]) ** 2)[:5]
    assert (scores > 0.5).all()
    usual = np.repeat(sides, 100)
    near, far = size_scores(np.append(usual, [189, 191]) ** 2)[-2:]
    assert near > 0.5 > far


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_where_most_sizes_are_equal_every_other_is_odd(common, other):
    scores = size_scores(np.array([common] * 8 + [other], np.float64) ** 2)
    assert (scores[:8] == 1).all()
    assert scores[8] == (1.0 if other == common else 0.0)
