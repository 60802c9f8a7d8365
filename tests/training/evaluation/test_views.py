"""Features of augmented views: a function of picture, key and seed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.evaluation.small_vit import PREPROCESSING, canvases, small_vit
from training.evaluation.views import evaluation_views, view_features

KEYS = [f"picture-{n}" for n in range(5)]


@pytest.fixture(scope="module")
def features():
    return view_features({"one": small_vit()}, canvases(5), KEYS, PREPROCESSING, views=3, batch=6)["one"]


def test_views_of_a_picture_do_not_depend_on_the_batch(features):
    assert features.shape == (5, 3, 24)
    both = {"one": small_vit(), "two": small_vit()}
    alone = view_features(both, canvases(5)[3:4], KEYS[3:4], PREPROCESSING, views=3, batch=64)
    np.testing.assert_allclose(alone["one"][0], features[3], atol=1e-5)
    np.testing.assert_array_equal(alone["two"], alone["one"])
    other = view_features(both, canvases(5)[3:4], KEYS[3:4], PREPROCESSING, views=3, batch=64, seed=1)["one"]
    assert np.abs(other[0] - features[3]).max() > 1e-3


def test_views_of_one_picture_differ_and_are_laid_out_by_picture(features):
    assert np.abs(features[:, 0] - features[:, 1]).max(axis=1).min() > 1e-4
    made = list(evaluation_views(canvases(5), KEYS, PREPROCESSING, views=3, batch=6))
    assert [len(part.rows) for part in made] == [2, 2, 1]
    vit = small_vit().eval()
    first = vit(made[0].crops).pooled.detach().numpy()
    # Crops come view after view; the first batch holds pictures 0 and 1.
    np.testing.assert_allclose(first[[0, 2, 4]], features[0], atol=1e-5)
    np.testing.assert_allclose(first[[1, 3, 5]], features[1], atol=1e-5)
