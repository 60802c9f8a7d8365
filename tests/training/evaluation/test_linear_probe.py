"""The linear probe against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.linear_probe import linear_probe, standardise
from training.evaluation.linear_probe_v1 import linear_probe_v1
from training.evaluation.logistic import fit_logistic
from training.evaluation.protocol import V1, V2
from training.evaluation.subsets import held_out_rows


def problem(n=300, q=200, d=12, classes=4, spread=2.0, seed=0):
    """Gaussian classes on axes of very different scale, as features have."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, d))
    mixing = generator.normal(size=(d, d)) * np.logspace(0, -2, d)
    labels, truth = generator.integers(0, classes, n), generator.integers(0, classes, q)
    bank = (centres[labels] + spread * generator.normal(size=(n, d))) @ mixing + 3
    queries = (centres[truth] + spread * generator.normal(size=(q, d))) @ mixing + 3
    return bank.astype(np.float32), labels, queries.astype(np.float32), truth


@pytest.mark.parametrize("c", [1e-3, 0.1, 10.0])
def test_weights_are_those_of_scikit_learn(c):
    from sklearn.linear_model import LogisticRegression

    bank, labels, _, _ = problem()
    rows, _ = standardise(bank, bank)
    reference = LogisticRegression(C=c, tol=1e-10, max_iter=20_000).fit(rows, labels)
    weights = fit_logistic(rows, labels, 4, c, tolerance=1e-8)
    np.testing.assert_allclose(weights[:-1].T, reference.coef_, atol=2e-4 * max(1, abs(reference.coef_).max()))
    # The intercept is free up to a constant over the classes.
    np.testing.assert_allclose(
        weights[-1] - weights[-1].mean(), reference.intercept_ - reference.intercept_.mean(), atol=1e-3
    )


@pytest.mark.parametrize("shape", [(300, 12), (60, 90)])
def test_predictions_are_those_of_scikit_learn_tall_and_wide(shape):
    from sklearn.linear_model import LogisticRegression

    bank, labels, queries, _ = problem(n=shape[0], d=shape[1])
    found = linear_probe(bank, labels, queries, regularisations=[0.1])
    rows, query_rows = standardise(bank, queries)
    reference = LogisticRegression(C=0.1, tol=1e-10, max_iter=20_000).fit(rows, labels)
    assert (found.predictions == reference.predict(query_rows)).mean() >= 0.995
    assert found.selection == {} and not found.held.any()
    older = linear_probe_v1(bank, labels, queries, regularisations=[0.1])
    np.testing.assert_allclose(found.probabilities, older.probabilities, atol=1e-3)


def test_regularisation_is_chosen_on_training_rows_alone():
    bank, labels, queries, _ = problem(n=120, d=60, spread=4.0)
    grid = V1.regularisations
    one = linear_probe(bank, labels, queries, regularisations=grid)
    other = linear_probe(bank, labels, queries[::-1] * 5, regularisations=grid)
    assert one.regularisation == other.regularisation
    assert one.selection == other.selection
    best = max(one.selection.values())
    assert one.regularisation == min(c for c, share in one.selection.items() if share == best)


def test_choice_beats_the_worst_of_the_grid_on_noisy_wide_features():
    bank, labels, queries, truth = problem(n=150, q=400, d=100, classes=3, spread=3.0, seed=5)
    chosen = linear_probe(bank, labels, queries, regularisations=(1e-4, 1e-2, 1.0))
    shares = [
        (linear_probe(bank, labels, queries, regularisations=[c]).predictions == truth).mean()
        for c in (1e-4, 1e-2, 1.0)
    ]
    assert (chosen.predictions == truth).mean() > min(shares)
    assert (chosen.predictions == truth).mean() >= max(shares) - 0.06


def test_constant_columns_and_rescaling_change_nothing():
    bank, labels, queries, _ = problem()
    plain = linear_probe(bank, labels, queries, regularisations=V1.regularisations)
    padded = [np.hstack([x * np.float32(100), np.full((len(x), 2), 0.1, np.float32)]) for x in (bank, queries)]
    again = linear_probe(padded[0], labels, padded[1], regularisations=V1.regularisations)
    assert (plain.predictions == again.predictions).mean() >= 0.995


def test_standardise_uses_the_training_rows_and_zeroes_constant_columns():
    bank = np.array([[1.0, 0.1], [3.0, 0.1]], np.float32)
    rows, queries = standardise(bank, np.array([[5.0, 9.0]]))
    np.testing.assert_allclose(rows, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(queries, [[3, 0]])


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(np.zeros((4, 2)), np.zeros(4, np.int64), np.zeros((1, 2)), regularisations=[1.0])


def test_strong_regularisation_on_uneven_classes_does_not_end_the_search():
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.zeros(90, np.int64), generator.integers(1, 6, 90)])
    bank = np.eye(6)[labels] @ generator.normal(size=(6, 20)) + 0.3 * generator.normal(size=(180, 20))
    grid = tuple(10.0**e for e in range(-8, 1))
    stuck = linear_probe_v1(bank, labels, bank, regularisations=grid)
    found = linear_probe(bank, labels, bank, regularisations=grid)
    assert max(stuck.selection.values()) == 0.5 == (stuck.predictions == labels).mean()
    assert (found.predictions == labels).mean() > 0.95


def test_a_plateau_of_accuracy_does_not_end_the_search():
    """The larger of two clusters of classes is found at once, what tells its classes apart only by weak C."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, 400)
    bank = 0.3 * generator.normal(size=(400, 12))
    bank[:, 0] += 4 * (labels >= 2)
    bank[:, 1] += np.where(labels % 2 == 0, 0.6, -0.6)
    found = linear_probe(bank, labels, bank, regularisations=V2.regularisations)
    scores = list(found.selection.values())
    assert scores[0] == scores[1] == scores[2] == scores[3] < max(scores) - 0.2
    assert found.selection[found.regularisation] == max(scores)
    assert len(scores) < len(V2.regularisations)


def test_soft_targets_are_counts_and_products_may_be_single():
    bank, labels, _, _ = problem(n=120, d=6)
    rows, _ = standardise(bank, bank)
    hard = fit_logistic(rows, labels, 4, 0.5, tolerance=1e-8)
    np.testing.assert_allclose(fit_logistic(rows, np.eye(4)[labels], 4, 0.5, tolerance=1e-8), hard, atol=1e-5)
    single = fit_logistic(rows.astype(np.float32), labels, 4, 0.5, tolerance=1e-4)
    np.testing.assert_allclose(single, hard, atol=2e-2)


def test_the_fitted_probe_answers_for_further_rows_and_for_the_rows_it_chose_on():
    bank, labels, queries, _ = problem(n=160, d=20)
    found = linear_probe(bank, labels, queries, regularisations=(1e-3, 1e-1, 10.0), seed=4)
    np.testing.assert_array_equal(found.classes_of(queries), found.predictions)
    np.testing.assert_array_equal(found.held, held_out_rows(labels, 0.2, 4))
    share = (found.held_probabilities.argmax(axis=1) == labels[found.held]).mean()
    assert share == pytest.approx(found.selection[found.regularisation])
    rest = linear_probe(
        bank[~found.held], labels[~found.held], bank[found.held], regularisations=[found.regularisation]
    )
    # The rows that C was chosen on take part in the scaling of the columns alone.
    np.testing.assert_allclose(found.held_probabilities, rest.probabilities, atol=0.05)
