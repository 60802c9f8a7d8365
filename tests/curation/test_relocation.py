import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.assignment import assign
from curation.kmeans import kmeans
from curation.lloyd import LocalParts, lloyd
from curation.relocation import relocate


def potential(rows, centroids):
    return assign(rows, centroids)[1].sum(dtype=np.float64)


def concepts(count=40, each=30, width=24, seed=0):
    """Rows around `count` far apart directions, and those directions."""
    rng = np.random.default_rng(seed)
    centres = 10 * rng.normal(size=(count, width))
    rows = np.repeat(centres, each, axis=0) + rng.normal(size=(count * each, width))
    return rows.astype(np.float32), centres.astype(np.float32)


def test_idle_centroids_go_where_concepts_have_none():
    rows, centres = concepts()
    stuck = np.concatenate([centres[:30], rows[:10]])  # eleven share the first concept, ten concepts have none
    best = potential(rows, kmeans(rows, 40, seed=0).centroids)
    found = relocate(rows, stuck, np.random.default_rng(0))
    assert potential(rows, stuck) > 5 * best
    assert potential(rows, found) == pytest.approx(best, rel=0.02)


def test_what_has_its_own_concept_each_stays():
    rows, centres = concepts()
    found = relocate(rows, centres, np.random.default_rng(0))
    assert np.linalg.norm(found - centres, axis=1).max() < 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.booleans())
def test_never_worse_than_lloyd_alone(seed, clusters, spherical):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(60, 4)).round(1).astype(np.float32)
    start = rows[rng.choice(60, clusters, replace=False)]
    if spherical:
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    found = relocate(rows, start, np.random.default_rng(seed), spherical=spherical)
    assert found.shape == start.shape and np.isfinite(found).all()
    alone = lloyd(LocalParts(rows), start, iterations=2, spherical=spherical)
    assert potential(rows, found) <= potential(rows, alone) * (1 + 1e-4) + 1e-2


@pytest.mark.parametrize("clusters", [1, 3])
def test_equal_rows_leave_nothing_to_move(clusters):
    rows = np.ones((8, 3), np.float32)
    assert relocate(rows, rows[:clusters], np.random.default_rng(0)).tolist() == rows[:clusters].tolist()
