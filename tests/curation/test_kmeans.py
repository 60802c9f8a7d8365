import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import load_digits

from curation.assignment import assign
from curation.kmeans import kmeans


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits().data.astype(np.float32)


def test_potential_is_as_low_as_scikit_learns(digits):
    ours = np.mean([kmeans(digits, 30, seed=seed).inertia for seed in range(5)])
    theirs = np.mean(
        [SklearnKMeans(30, n_init=1, max_iter=50, tol=0, random_state=seed).fit(digits).inertia_ for seed in range(5)]
    )
    assert ours < 1.01 * theirs


def test_one_lloyd_iteration_from_given_labels_is_the_mean(digits):
    result = kmeans(digits, 10, seed=0, iterations=200)
    for cluster in range(10):
        members = digits[result.labels == cluster].astype(np.float64)
        assert np.allclose(result.centroids[cluster], members.mean(axis=0), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 8))
def test_assignment_is_the_nearest_by_brute_force(seed, count, clusters):
    rng = np.random.default_rng(seed)
    rows, centroids = rng.normal(size=(count, 5)), rng.normal(size=(clusters, 5))
    labels, distances = assign(rows.astype(np.float32), centroids.astype(np.float32))
    squared = ((rows.astype(np.float32)[:, None].astype(float) - centroids.astype(np.float32)[None]) ** 2).sum(axis=2)
    assert np.array_equal(labels, squared.argmin(axis=1))
    assert np.allclose(distances, squared.min(axis=1), rtol=1e-5)


def test_equal_centroids_give_the_smaller_index(digits):
    labels, _ = assign(digits[:50], np.repeat(digits[:4], 2, axis=0))
    assert set(labels.tolist()) <= {0, 2, 4, 6}


def test_blocks_do_not_change_the_result(digits, monkeypatch):
    whole = kmeans(digits, 12, seed=1)
    monkeypatch.setattr("curation.row_blocks._MOST_ROWS", 97)
    parts = kmeans(digits, 12, seed=1)
    assert np.array_equal(whole.labels, parts.labels)


def test_same_seed_same_bits_other_seed_other_clusters(digits):
    one, again, other = (kmeans(digits, 20, seed=seed) for seed in (3, 3, 4))
    assert one.centroids.tobytes() == again.centroids.tobytes()
    assert not np.array_equal(one.labels, other.labels)


def test_more_clusters_than_distinct_points_leave_some_empty():
    rows = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    result = kmeans(rows, 7, seed=0)
    assert result.inertia == 0
    assert len(np.unique(result.labels)) == 3
    assert np.isfinite(result.centroids).all()


def test_every_point_its_own_cluster(digits):
    result = kmeans(digits[:25], 25, seed=0)
    assert result.inertia == pytest.approx(0, abs=1e-3)
    assert sorted(result.labels.tolist()) == list(range(25))


def test_spherical_centroids_have_length_one(digits):
    units = digits / np.linalg.norm(digits, axis=1, keepdims=True)
    result = kmeans(units, 15, seed=0, spherical=True)
    assert np.allclose(np.linalg.norm(result.centroids, axis=1), 1, atol=1e-5)
    cosine = units @ result.centroids.T
    assert np.array_equal(result.labels, cosine.argmax(axis=1))


@pytest.mark.parametrize("clusters", [0, 6])
def test_impossible_counts_are_refused(clusters):
    with pytest.raises(ValueError, match="clusters of 5 points"):
        kmeans(np.zeros((5, 2)), clusters, seed=0)


def test_number_of_threads_does_not_change_the_result():
    program = (
        "import hashlib; from sklearn.datasets import load_digits; from curation.kmeans import kmeans;"
        "r = kmeans(load_digits().data, 40, seed=5); print(hashlib.sha256(r.labels.tobytes()).hexdigest(),"
        "hashlib.sha256(r.centroids.tobytes()).hexdigest())"
    )
    outputs = set()
    for threads in ("1", "2", "3"):
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **limits}, capture_output=True, text=True, check=True
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
