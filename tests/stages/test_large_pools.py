import numpy as np
import pyarrow as pa
import pytest

from curation.hierarchy import hierarchical_kmeans
from curation.kmeans import kmeans
from curation.row_blocks import UnitRows
from curation.row_files import RowFiles
from curation.shared_kmeans import SharedClustering
from stages import vectors as vectors_module
from stages.curate import Curate
from stages.dedup import Dedup
from stages.embed.worker import embeddings_table
from stages.large_pools import SearchParams, map_tasks, pool_clustering, pool_links
from stages.tables import write_part
from stages.vectors import pool_vectors, read_vectors
from tests.stages.pool import artifact_of, context_of, emoji_bytes, table_artifact, write_images_artifact

WIDTH = 24


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """1,200 embeddings in three parts, in no order; the last third nearly repeats the first."""
    path = tmp_path_factory.mktemp("embeddings")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, WIDTH))[rng.integers(0, 20, 1200)] + 0.6 * rng.normal(size=(1200, WIDTH))
    rows[800:] = rows[:400] + 0.1 * rng.normal(size=(400, WIDTH))
    ids = [f"{n:064x}" for n in rng.permutation(1200)]
    for part, block in enumerate(np.array_split(np.arange(1200), 3)):
        table = embeddings_table(
            [ids[row] for row in block], rows[block].astype(np.float16), {"model": "m", "preprocessing": "{}"}
        )
        write_part(path, "embeddings", part, table)
    return path


@pytest.fixture
def context(tmp_path):
    return lambda **more: context_of(Dedup(Dedup.Params()), tmp_path / "work", {}, **more)


def test_files_hold_what_memory_would(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors_module, "_FILE_ROWS", 250)
    monkeypatch.setattr(vectors_module, "_BATCH_ROWS", 100)
    ids, everything = read_vectors(artifact)
    wanted = sorted([*ids[::3], "0" * 63 + "x", "f" * 64])
    inside, outside = (pool_vectors(artifact, wanted, tmp_path / str(most), most) for most in (1000, 10))
    assert isinstance(outside.rows, RowFiles)
    assert [wanted[place] for place in outside.present] == ids[::3]
    assert np.array_equal(outside.present, inside.present)
    assert np.array_equal(inside.rows, everything[::3])
    assert outside.rows[:].tobytes() == inside.rows.tobytes()
    some = np.array([0, 7, 255, 399])
    assert np.array_equal(outside.rows[some], inside.rows[some])
    assert np.array_equal(outside.rows[-1], inside.rows[-1])
    assert np.array_equal(outside.rows.narrowed(some, tmp_path / "some.npy")[1:3], inside.rows[some][1:3])
    assert np.array_equal(UnitRows(outside.rows)[some], outside.rows.units()[some])


def test_no_wanted_image_has_an_embedding(artifact, tmp_path):
    found = pool_vectors(artifact, pa.array(["x"]), tmp_path, 0)
    assert len(found.present) == 0
    assert found.rows.shape == (0, WIDTH)


def bits_of(links):
    return links.rows.tobytes() + links.columns.tobytes() + links.cosines.tobytes()


def test_workers_on_files_find_what_one_process_finds(artifact, tmp_path, context, ray_cluster, monkeypatch):
    from pipelines.executors.ray_compute import RayCompute

    monkeypatch.setattr("stages.large_pools.PART_ROWS", 500)
    monkeypatch.setattr("curation.lloyd.PART_ROWS", 500)
    ids, rows = read_vectors(artifact)
    files = pool_vectors(artifact, ids, tmp_path, 0).rows
    links, recall = pool_links(context(), rows, 0.8, 8, SearchParams())
    assert recall == 1
    assert len(np.unique(links.rows)) >= 800
    on_ray = context(compute=RayCompute(tmp_path / "ray"))
    for shared in (context(), on_ray):
        assert bits_of(pool_links(shared, files, 0.8, 8, SearchParams())[0]) == bits_of(links)
    here = kmeans(UnitRows(rows), 30, seed=1, iterations=1, relocation=False)
    work = SharedClustering(map_tasks(on_ray), on_ray.scratch / "clusters", 500)
    there = work.kmeans(files.units(), 30, seed=1, iterations=1, spherical=False)
    assert here.centroids.tobytes() == there.centroids.tobytes()
    assert here.distances.tobytes() == there.distances.tobytes()


def test_a_pool_too_large_for_every_pair_is_searched_in_cells_and_says_so(artifact, context):
    events = []
    _, rows = read_vectors(artifact)
    exact, _ = pool_links(context(), rows, 0.8, 8, SearchParams())
    params = SearchParams(exact_up_to=100, cells=50, probes=1, sample=1200)
    links, recall = pool_links(context(events=events), rows, 0.8, 8, params)
    found = np.isin(exact.rows * 1200 + exact.columns, links.rows * 1200 + links.columns)
    assert recall == found.mean()
    assert 0.5 < recall < 1
    assert any("searched for in cells" in str(event) for event in events)


def test_a_tree_of_rows_in_files_is_the_tree_of_an_array(artifact, tmp_path, context):
    ids, rows = read_vectors(artifact)
    files = pool_vectors(artifact, ids, tmp_path, 0).rows.units()
    here = hierarchical_kmeans(UnitRows(rows), [40, 6], seed=0, rounds=2, iterations=5)
    ctx = context()
    there = hierarchical_kmeans(files, [40, 6], seed=0, rounds=2, iterations=5, clustering=pool_clustering(ctx, files))
    assert np.array_equal(here.paths(), there.paths())
    assert here.levels[0].centroids.tobytes() == there.levels[0].centroids.tobytes()
    assert pool_clustering(ctx, rows) is None


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Drawings with made-up embeddings around six directions, every fifth a near-copy of the one before."""
    images = write_images_artifact(tmp_path_factory.mktemp("images"), emoji_bytes(60, 32))
    ids = images.table(["image_id"])["image_id"].to_pylist()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, WIDTH))[rng.integers(0, 6, len(ids))] + 0.5 * rng.normal(size=(len(ids), WIDTH))
    rows[4::5] = rows[3:-1:5] + 0.02 * rng.normal(size=rows[4::5].shape)
    path = tmp_path_factory.mktemp("embeddings")
    table = embeddings_table(ids[1:], rows[1:].astype(np.float16), {"model": "m", "preprocessing": "{}"})
    write_part(path, "embeddings", 0, table)
    return {"images": images, "embeddings": table_artifact("embeddings", path)}


def test_dedup_and_curate_give_the_same_from_files_as_from_memory(pool, tmp_path):
    params = {"clusters": 12, "rounds": 1, "iterations": 5, "coarse": 3, "nearest": [2, 2]}
    found = []
    for in_memory in (1000, 0):
        place = tmp_path / str(in_memory)
        duplicates = artifact_of(Dedup, {"search": {"in_memory": in_memory}}, place / "dedup", pool)
        inputs = {**pool, "duplicates": duplicates}
        selection = artifact_of(Curate, {**params, "in_memory": in_memory}, place / "curate", inputs)
        found.append((duplicates.digest, selection.digest))
        assert (place / "curate" / "scratch" / "pool").exists() == (in_memory == 0)
    assert found[0] == found[1]
    assert duplicates.manifest["metrics"]["dropped"] >= 11
    assert selection.manifest["metrics"]["no_embedding"] == 1
