"""CLID: learnability by brute force, TwoNN on manifolds of known dimension, the sum over models."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from training.evaluation import clid as module
from training.evaluation.clid import clid, cluster_learnability, two_nn_dimension
from training.evaluation.sphere import unit_rows


def test_learnability_is_the_online_accuracy_of_one_neighbour(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 13)
    features = np.random.default_rng(0).normal(size=(80, 6))
    x = unit_rows(features)
    _, labels = kmeans2(x, 5, iter=25, minit="++", seed=np.random.default_rng(3))
    order = np.random.default_rng(3).permutation(80)
    right = 0
    for place in range(1, 80):
        before = order[:place]
        right += labels[before[np.argmax(x[before] @ x[order[place]])]] == labels[order[place]]
    assert cluster_learnability(features, 5, seed=3) == pytest.approx(right / 80)


def test_tight_clusters_are_learned_at_once():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 20))
    tight = centres[generator.integers(0, 4, 200)] + 0.01 * generator.normal(size=(200, 20))
    assert cluster_learnability(tight, 4) >= 0.97
    assert cluster_learnability(generator.normal(size=(200, 20)), 40) < 0.6
    with pytest.raises(ValueError, match="at least as many rows"):
        cluster_learnability(tight[:3], 4)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_flat_manifold_in_a_wide_space(dimension):
    generator = np.random.default_rng(0)
    flat = generator.random((2000, dimension)) @ np.linalg.qr(generator.normal(size=(30, dimension)))[0].T
    assert two_nn_dimension(flat) == pytest.approx(dimension, rel=0.1)
    assert two_nn_dimension(np.vstack([flat, flat[:500]])) == pytest.approx(two_nn_dimension(flat))


def test_two_nn_is_the_slope_through_the_origin_by_scikit_learn():
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import NearestNeighbors

    features = np.random.default_rng(1).normal(size=(300, 4))
    distances, _ = NearestNeighbors(n_neighbors=3).fit(features).kneighbors(features)
    ratio = np.sort(distances[:, 2] / distances[:, 1])[:270]
    survival = -np.log(1 - np.arange(1, 271) / 301)
    fit = LinearRegression(fit_intercept=False).fit(np.log(ratio)[:, None], survival)
    assert two_nn_dimension(features) == pytest.approx(fit.coef_[0], rel=1e-6)


def test_sum_of_standardised_measures():
    found = clid([0.2, 0.4, 0.9], [5.0, 5.0, 5.0])
    np.testing.assert_allclose(found, (np.array([0.2, 0.4, 0.9]) - 0.5) / np.std([0.2, 0.4, 0.9]))
    assert sum(clid([1.0, 2.0], [3.0, 9.0])) == pytest.approx(0)
    assert np.isnan(two_nn_dimension(np.zeros((9, 2))))
    with pytest.raises(ValueError, match="at least two"):
        clid([1.0], [2.0])


def test_fewer_different_rows_than_clusters_are_no_trouble():
    rows = np.repeat(np.eye(3), 4, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cluster_learnability(rows, 6)
    # Each of the three rows is unknown once, when it is met first.
    assert found == pytest.approx(9 / 12)
