"""Accuracies and their intervals against scikit-learn, published values and exhaustive counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.accuracy import accuracy, balanced_accuracy, class_accuracy, confusion_matrix
from training.evaluation.intervals import balanced_interval, difference_interval, wilson_interval


def test_accuracies_are_those_of_scikit_learn():
    from sklearn import metrics

    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 4), metrics.confusion_matrix(truth, predicted))
    assert accuracy(truth, predicted) == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert balanced_accuracy(truth, predicted, 4) == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))


def test_class_without_rows_counts_for_nothing():
    truth, predicted = np.array([0, 0, 2]), np.array([0, 1, 2])
    shares = class_accuracy(truth, predicted, 3)
    assert shares[0] == 0.5
    assert np.isnan(shares[1])
    assert balanced_accuracy(truth, predicted, 3) == 0.75


def test_wilson_interval_of_a_worked_example():
    # 8 of 10: centre (0.8 + z^2/20) / (1 + z^2/10) with z = 1.959964.
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.49016, abs=1e-5), pytest.approx(0.94331, abs=1e-5))
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_in_range(counts):
    right, total = counts
    low, high = wilson_interval(right, total)
    assert -1e-12 <= low <= right / total + 1e-12
    assert right / total - 1e-12 <= high <= 1


def test_balanced_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [200, 60, 30])
    rates = np.array([0.9, 0.6, 0.5])
    hits = 0
    for trial in range(200):
        correct = generator.random(len(truth)) < rates[truth]
        low, high = balanced_interval(correct, truth, seed=trial, resamples=400)
        hits += low <= rates.mean() <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_paired_difference_is_narrower_than_two_single_intervals():
    generator = np.random.default_rng(0)
    one = generator.random(400) < 0.6
    two = one.copy()
    flipped = generator.choice(np.flatnonzero(one), 20, replace=False)
    two[flipped] = False
    low, high = difference_interval(one, two, seed=0)
    assert 0 < low < 20 / 400 < high
    single = wilson_interval(int(one.sum()), 400)
    assert high - low < (single[1] - single[0]) / 2
    assert difference_interval(one, one, seed=0) == (0.0, 0.0)
    assert difference_interval(one, two, seed=5) == difference_interval(one, two, seed=5)
