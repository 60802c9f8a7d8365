import numpy as np
import pytest

from curation import lloyd
from curation.hierarchy import hierarchical_kmeans
from curation.kmeans import kmeans
from curation.shared_kmeans import SharedClustering
from tests.curation.shared_rows import backwards, in_files


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(12, 6))[rng.integers(0, 12, 700)] * 4 + rng.normal(size=(700, 6))).astype(np.float16)


@pytest.mark.parametrize("spherical", [False, True])
def test_parts_on_workers_give_the_bits_of_one_process(rows, tmp_path, monkeypatch, spherical):
    monkeypatch.setattr(lloyd, "PART_ROWS", 150)
    points = in_files(rows, tmp_path, size=400, unit=spherical)
    here = kmeans(points[:], 9, seed=1, iterations=8, spherical=spherical, relocation=False)
    there = SharedClustering(backwards, tmp_path / "work", 150).kmeans(
        points, 9, seed=1, iterations=8, spherical=spherical
    )
    for name in ("centroids", "labels", "distances"):
        assert getattr(here, name).tobytes() == getattr(there, name).tobytes()
    assert list((tmp_path / "work").iterdir()) == []


def test_other_parts_change_the_last_bits_alone(rows, tmp_path):
    points = in_files(rows, tmp_path, size=400)
    here = kmeans(rows, 9, seed=1, iterations=8, relocation=False)
    there = SharedClustering(backwards, tmp_path / "work", 64).kmeans(points, 9, seed=1, iterations=8, spherical=False)
    assert np.allclose(here.centroids, there.centroids, rtol=1e-6)
    assert np.array_equal(here.labels, there.labels)


@pytest.mark.parametrize("coarse", [0, 5])
def test_a_tree_by_workers_is_the_tree_of_one_process(rows, tmp_path, monkeypatch, coarse):
    monkeypatch.setattr(lloyd, "PART_ROWS", 150)
    points = in_files(rows, tmp_path, size=300, unit=True)
    settings = {"seed": 3, "rounds": 2, "iterations": 6, "coarse": coarse, "spherical": True}
    here = hierarchical_kmeans(points[:], [40, 12, 3], **settings)
    work = SharedClustering(backwards, tmp_path / "work", 150)
    there = hierarchical_kmeans(points, [40, 12, 3], clustering=work, **settings)
    for one, other in zip(here.levels, there.levels, strict=True):
        assert one.centroids.tobytes() == other.centroids.tobytes()
        assert np.array_equal(one.labels, other.labels)
    work.close()
    assert not (tmp_path / "work").exists()
