import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus
from sklearn.datasets import load_digits

from curation import seeding
from curation.assignment import assign
from curation.seeding import sample_rows


def spread_centres(points, clusters, seed):
    rng = np.random.default_rng(seed)
    return seeding.spread_centres(sample_rows(points, clusters, rng), clusters, rng)


def potential(rows, centres):
    return assign(rows, centres)[1].sum()


@pytest.fixture(scope="module")
def digits():
    return load_digits().data.astype(np.float32)


def test_as_well_spread_as_scikit_learns(digits):
    ours = np.mean([potential(digits, spread_centres(digits, 40, seed)) for seed in range(5)])
    theirs = np.mean(
        [potential(digits, kmeans_plusplus(digits, 40, random_state=s)[0].astype(np.float32)) for s in range(5)]
    )
    assert ours < 1.05 * theirs


def test_rounds_of_several_centres_find_rare_concepts_that_a_blind_choice_misses(monkeypatch):
    rng = np.random.default_rng(0)
    sizes = (4000 / np.arange(1, 61)).astype(int)
    rows = np.repeat(10 * rng.normal(size=(60, 16)), sizes, axis=0)
    rows = (rows + rng.normal(size=rows.shape)).astype(np.float32)
    one = np.mean([potential(rows, spread_centres(rows, 60, seed)) for seed in range(3)])
    monkeypatch.setattr(seeding, "GREEDY", 1)
    monkeypatch.setattr(seeding, "_ROUNDS", 20)
    rounds = np.mean([potential(rows, spread_centres(rows, 60, seed)) for seed in range(3)])
    blind = np.mean([potential(rows, rows[rng.choice(len(rows), 60, replace=False)]) for _ in range(3)])
    assert one < rounds < 0.25 * blind


@pytest.mark.parametrize("greedy", [1, 1024])
def test_centres_are_different_rows_of_the_points(digits, monkeypatch, greedy):
    monkeypatch.setattr(seeding, "GREEDY", greedy)
    monkeypatch.setattr(seeding, "_ROUNDS", 7)
    centres = spread_centres(digits[:80], 80, 3)
    assert np.array_equal(np.unique(centres, axis=0), np.unique(digits[:80], axis=0))
