"""Rank correlations of checkpoints against counts of pairs and scipy."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from training.evaluation.checkpoint_ranking import rank_correlation, ranking_table


def test_both_correlations_by_counting():
    generator = np.random.default_rng(0)
    loss = generator.random(12)
    probe = -loss + 0.3 * generator.random(12)
    found = rank_correlation(loss, probe, resamples=200)
    signs = [np.sign((loss[i] - loss[j]) * (probe[i] - probe[j])) for i, j in itertools.combinations(range(12), 2)]
    assert found.kendall == pytest.approx(np.mean(signs))
    gaps = np.argsort(np.argsort(loss)) - np.argsort(np.argsort(probe))
    assert found.spearman == pytest.approx(1 - 6 * (gaps**2).sum() / (12 * (12**2 - 1)))
    assert found.spearman_interval[0] <= found.spearman <= found.spearman_interval[1] < 0
    assert found.checkpoints == 12


def test_ties_are_treated_as_scipy_treats_them():
    from scipy.stats import kendalltau, spearmanr

    generator = np.random.default_rng(3)
    x, y = generator.integers(0, 4, 15), generator.integers(0, 4, 15)
    found = rank_correlation(x, y, resamples=10)
    assert found.spearman == pytest.approx(spearmanr(x, y).statistic)
    assert found.kendall == pytest.approx(kendalltau(x, y).statistic)


def test_exact_p_value_of_a_perfect_order():
    found = rank_correlation([1, 2, 3, 4, 5], [2, 4, 6, 8, 10], resamples=50)
    assert (found.spearman, found.kendall) == (pytest.approx(1), pytest.approx(1))
    assert found.p_value == pytest.approx(2 / 120)


def test_values_that_are_missing_or_constant():
    found = rank_correlation([1, 2, 3, np.nan], [3, 2, 1, 9], resamples=20)
    assert found.checkpoints == 3
    assert found.kendall == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3], resamples=5).spearman)
    with pytest.raises(ValueError, match="three checkpoints"):
        rank_correlation([1, 2], [1, 2])


def test_table_over_the_metrics_of_checkpoints():
    checkpoints = [{"loss": 3.0 - s, "rankme": 10.0 * s, "knn": 0.1 * s} for s in range(4)]
    rows = ranking_table([*checkpoints, {"loss": 9.0}], ["loss", "rankme", "alpha"], ["knn"])
    assert [(row["measure"], row["spearman"]) for row in rows] == [
        ("loss", pytest.approx(-1)),
        ("rankme", pytest.approx(1)),
    ]
    assert rows[0]["checkpoints"] == 4
    assert rows[0]["kendall_lo"] <= rows[0]["kendall"]


def test_intervals_are_those_of_scipy_on_the_same_resamples(monkeypatch):
    from scipy.stats import kendalltau, spearmanr

    from training.evaluation import checkpoint_ranking as module

    monkeypatch.setattr(module, "_BLOCK", 7)
    generator = np.random.default_rng(5)
    x = generator.integers(0, 9, 30).astype(float)
    y = x + generator.normal(size=30).round(1)
    drawn = np.random.default_rng(2).integers(0, 30, (60, 30))
    for name, of in (("kendall", kendalltau), ("spearman", spearmanr)):
        expected = np.quantile([of(x[rows], y[rows]).statistic for rows in drawn], [0.025, 0.975])
        found = getattr(rank_correlation(x, y, seed=2, resamples=60), f"{name}_interval")
        assert found == pytest.approx(tuple(expected))


def test_hundreds_of_moments_cost_little():
    generator = np.random.default_rng(0)
    x = np.arange(400.0)
    start = time.process_time()
    found = rank_correlation(x, x + 120 * generator.normal(size=400))
    assert time.process_time() - start < 3
    assert 0.4 < found.kendall_interval[0] < found.kendall < found.kendall_interval[1] < 0.7
