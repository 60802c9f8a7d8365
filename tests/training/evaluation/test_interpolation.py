"""kNN with linear interpolation: the mixture, its ends, and the choice of the share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.evaluation.classes import gaussian_classes
from training.evaluation.interpolation import interpolate, knn_linear_interpolation
from training.evaluation.knn import knn_predictions, knn_probabilities
from training.evaluation.linear_probe import linear_probe


def test_probabilities_are_shares_of_the_votes():
    bank, labels, queries, _ = gaussian_classes(n=60, q=20)
    found = knn_probabilities(bank, labels, queries, 5)
    unit = [x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (bank, queries)]
    for row, similarity in enumerate(unit[1] @ unit[0].T):
        best = np.argsort(-similarity)[:5]
        votes = np.bincount(labels[best], weights=np.exp(similarity[best] / 0.07), minlength=4)
        np.testing.assert_allclose(found[row], votes / votes.sum(), atol=1e-4)
    np.testing.assert_array_equal(found.argmax(axis=1), knn_predictions(bank, labels, queries, [5])[5])


def test_linear_probabilities_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    from training.evaluation.linear_probe import standardise

    bank, labels, queries, _ = gaussian_classes()
    found = linear_probe(bank, labels, queries, regularisations=[0.1]).probabilities
    rows, asked = standardise(bank, queries)
    reference = LogisticRegression(C=0.1, tol=1e-10, max_iter=20_000).fit(rows, labels)
    np.testing.assert_allclose(found, reference.predict_proba(asked), atol=1e-3)


def test_the_ends_of_the_mixture_are_the_probes_and_the_share_is_chosen_on_training_rows():
    bank, labels, queries, truth = gaussian_classes(n=300, q=150, spread=1.8)
    grid = (1e-3, 0.1)
    knn = knn_predictions(bank, labels, queries, [20])[20]
    probe = linear_probe(bank, labels, queries, regularisations=grid)
    linear = probe.predictions
    only_knn = knn_linear_interpolation(bank, labels, queries, probe, shares=(1.0,))
    only_linear = knn_linear_interpolation(bank, labels, queries, probe, shares=(0.0,))
    np.testing.assert_array_equal(only_knn.predictions, knn)
    np.testing.assert_array_equal(only_linear.predictions, linear)
    mixed = knn_linear_interpolation(bank, labels, queries, probe)
    best = max(mixed.selection.values())
    assert mixed.share == min(share for share, value in mixed.selection.items() if value == best)
    held = knn_predictions(bank[~probe.held], labels[~probe.held], bank[probe.held], [20])[20]
    assert mixed.selection[1.0] == pytest.approx((held == labels[probe.held]).mean())
    assert mixed.selection[0.0] == pytest.approx(probe.selection[probe.regularisation])
    other = linear_probe(bank, labels, queries[::-1], regularisations=grid)
    assert mixed.selection == knn_linear_interpolation(bank, labels, queries[::-1], other).selection
    one = linear_probe(bank, labels, queries, regularisations=grid[1:])
    assert knn_linear_interpolation(bank, labels, queries, one).share == 0
    assert (mixed.predictions == truth).mean() >= min((knn == truth).mean(), (linear == truth).mean())


def test_mixture_of_two_distributions():
    found = interpolate(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]]), 0.2)
    assert found[0].tolist() == pytest.approx([0.4, 0.6])
