"""The ridge probe and its leave-one-out scores against scikit-learn and against leaving rows out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tests.training.evaluation.classes import gaussian_classes
from training.evaluation.ridge import PENALTIES, ridge_probe


@pytest.mark.parametrize(("n", "d"), [(120, 10), (30, 60)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_scores_are_those_of_scikit_learn_tall_and_wide(n, d, penalty):
    bank, labels, queries, _ = gaussian_classes(n=n, d=d)
    bank, queries = bank + 5, queries + 5
    found = ridge_probe(bank, labels, queries, penalties=[penalty])
    power = ((bank.astype(float) - bank.mean(axis=0, dtype=float)) ** 2).sum() / d
    reference = Ridge(alpha=penalty * power, solver="svd").fit(bank.astype(float), np.eye(4)[labels])
    np.testing.assert_allclose(found.scores, reference.predict(queries.astype(float)), atol=1e-8)
    np.testing.assert_array_equal(found.predictions, found.scores.argmax(axis=1))


@pytest.mark.parametrize(("n", "d"), [(40, 5), (20, 35)])
def test_selection_is_the_accuracy_of_really_leaving_each_row_out(n, d):
    bank, labels, queries, _ = gaussian_classes(n=n, d=d, spread=2.0)
    penalties = (1e-2, 0.3)
    found = ridge_probe(bank, labels, queries, penalties=penalties)
    power = ((bank.astype(float) - bank.mean(axis=0, dtype=float)) ** 2).sum() / d
    for penalty in penalties:
        right = 0
        for row in range(n):
            others = np.arange(n) != row
            model = Ridge(alpha=penalty * power, solver="svd").fit(
                bank[others].astype(float), np.eye(4)[labels[others]]
            )
            right += model.predict(bank[row : row + 1].astype(float)).argmax() == labels[row]
        assert found.selection[penalty] == pytest.approx(right / n)
    best = max(found.selection.values())
    assert found.penalty == max(p for p, share in found.selection.items() if share == best)


def test_rescaled_features_give_the_same_answer_and_constant_columns_none():
    bank, labels, queries, _ = gaussian_classes()
    plain = ridge_probe(bank, labels, queries)
    scaled = ridge_probe(bank * np.float32(1000), labels, queries * np.float32(1000))
    np.testing.assert_allclose(plain.scores, scaled.scores, atol=1e-6)
    assert set(plain.selection) == set(PENALTIES)
    with pytest.raises(ValueError, match="two classes"):
        ridge_probe(bank, np.zeros(len(bank), np.int64), queries)


def test_features_that_are_all_alike_give_the_largest_class():
    found = ridge_probe(np.ones((5, 3)), np.array([0, 1, 1, 1, 2]), np.zeros((2, 3)))
    assert found.predictions.tolist() == [1, 1]
