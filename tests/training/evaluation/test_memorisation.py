"""The memorisation score by loops, and where there is something to find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.evaluation.memorisation import alignment_losses, excess, memorisation


def test_loss_is_the_mean_distance_of_pairs_of_views():
    views = np.random.default_rng(0).normal(size=(5, 4, 6))
    for found, image in zip(alignment_losses(views), views, strict=True):
        unit = image / np.linalg.norm(image, axis=1, keepdims=True)
        expected = np.mean([np.linalg.norm(unit[a] - unit[b]) for a, b in itertools.combinations(range(4), 2)])
        assert found == pytest.approx(expected)


def test_images_whose_views_only_the_trained_encoder_brings_together_stand_out():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(60, 1, 12))
    trained, reference = (images + 0.5 * generator.normal(size=(60, 6, 12)) for _ in range(2))
    trained[:20] = images[:20] + 0.05 * generator.normal(size=(20, 6, 12))
    found = memorisation(trained, reference)
    assert found.scores[:20].min() > found.scores[20:].max()
    assert np.abs(found.scores).max() == pytest.approx(1)
    assert 0 < found.interval[0] < found.mean < found.interval[1]
    low, high = memorisation(reference[20:], trained[20:]).interval
    assert low < 0 < high
    with pytest.raises(ValueError, match="two views"):
        alignment_losses(images)
    with pytest.raises(ValueError, match="same images"):
        memorisation(trained, reference[:5])


def test_excess_over_images_that_neither_encoder_saw():
    # means .4 and .1; variances .0196 and .04; 1.959964 * sqrt(.0196 / 3 + .04 / 3) = .276255
    value, (low, high) = excess(np.array([0.26, 0.4, 0.54]), np.array([0.3, 0.1, -0.1]), 0.95)
    assert value == pytest.approx(0.3)
    assert (low, high) == pytest.approx((0.3 - 0.276255, 0.3 + 0.276255), abs=1e-6)
    assert np.isinf(excess(np.array([0.2]), np.array([0.1, 0.3]))[1]).all()
