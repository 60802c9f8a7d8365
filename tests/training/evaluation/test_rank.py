"""Label-free measures against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.rank import effective_rank, rankme, singular_values, unit_std


@pytest.mark.parametrize("shape", [(200, 20), (20, 200)])
def test_against_the_formulas_by_svd(shape):
    features = np.random.default_rng(0).normal(size=shape) * np.logspace(0, -3, shape[1]) + 0.5
    values = np.linalg.svd(features, compute_uv=False)
    np.testing.assert_allclose(singular_values(features)[:15], values[:15], rtol=1e-6)
    p = values / values.sum() + 1e-7
    assert rankme(features) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    eigenvalues = np.linalg.eigvalsh(np.cov(features.T))
    q = np.clip(eigenvalues, 1e-300, None) / eigenvalues.sum()
    assert effective_rank(features) == pytest.approx(np.exp(-(q * np.log(q)).sum()), rel=1e-4)


def test_orthogonal_features_have_full_rank_and_collapsed_ones_rank_one():
    assert rankme(np.eye(16)) == pytest.approx(16, rel=1e-4)
    assert effective_rank(np.vstack([np.eye(8), -np.eye(8)])) == pytest.approx(8, rel=1e-9)
    collapsed = np.tile(np.random.default_rng(1).normal(size=32), (50, 1))
    assert rankme(collapsed) == pytest.approx(1, abs=0.01)
    assert effective_rank(collapsed) == 1
    assert unit_std(collapsed) == pytest.approx(0, abs=1e-9)
    assert rankme(np.zeros((5, 3))) == 1


def test_spread_of_features_on_the_sphere_is_near_one():
    features = np.random.default_rng(2).normal(size=(4000, 64))
    assert unit_std(features) == pytest.approx(1, abs=0.01)
    assert unit_std(features * 7) == pytest.approx(unit_std(features), rel=1e-9)
