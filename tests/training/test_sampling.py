from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.training.samples import sample_rows
from training.loader import Loader
from training.populations import population
from training.sampling import Population, Sampling, Stream, cluster_weights, mixture_weights, running_totals, spaced
from training.shards import SAMPLES, ShardReader, write_index, write_shard

BATCH = 8


def _reader(folder: Path, count: int = 96, **columns: list[object]) -> ShardReader:
    """Shards in two files whose rows have these values in place of the samples' own."""
    rows = [{**row, **{name: values[row["row"]] for name, values in columns.items()}} for row in sample_rows(count)]
    half = count // 2
    entries = [
        write_shard(folder / f"shard-{first}.arrow", pa.Table.from_pylist(rows[first : first + half], schema=SAMPLES))
        for first in (0, half)
    ]
    write_index(folder, entries, half, sample_by=("source", "cluster"))
    return ShardReader(folder)


def _epoch(drawn_from: Population, n: int, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    steps = n // BATCH
    return [
        drawn_from.batch(step, 0, 1, BATCH, n, seed)[0].tolist() for step in range(epoch * steps, (epoch + 1) * steps)
    ]


weights = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e6)).filter(lambda w: w.max() > 0)


@settings(max_examples=200, deadline=None)
@given(weights=weights, draws=st.integers(1, 500), offset=st.integers(0, 2**64 - 1))
def test_every_row_is_drawn_its_expected_number_of_times_to_within_one(
    weights: np.ndarray, draws: int, offset: int
) -> None:
    totals = running_totals(weights)
    rows = Stream(len(weights), None, totals).drawn(np.arange(draws), draws, offset)
    counts = np.bincount(rows, minlength=len(weights))
    shares = np.diff(totals, prepend=0)
    for count, share in zip(counts.tolist(), shares.tolist(), strict=True):
        exact = draws * share // int(totals[-1])  # in whole numbers
        assert exact <= count <= exact + (draws * share % int(totals[-1]) > 0)
    assert np.allclose(shares / totals[-1], weights / weights.sum(), atol=1e-12)
    assert np.array_equal(rows, np.sort(rows))


@settings(max_examples=100, deadline=None)
@given(weight=st.floats(1e-3, 1e3), n=st.integers(1, 300), offset=st.integers(0, 2**64 - 1))
def test_equal_weights_draw_every_row_once(weight: float, n: int, offset: int) -> None:
    totals = running_totals(np.full(n, weight))
    assert np.array_equal(Stream(n, None, totals).drawn(np.arange(n), n, offset), np.arange(n))
    assert np.array_equal(Stream(n).drawn(np.arange(n), n, offset), np.arange(n))


@settings(max_examples=200, deadline=None)
@given(of=st.integers(1, 2**31), total=st.integers(1, 2**61), data=st.data())
def test_points_are_exact_in_64_bits(of: int, total: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, total - 1))
    draws = data.draw(st.lists(st.integers(0, of - 1), min_size=1, max_size=5))
    assert spaced(np.array(draws), of, total, offset).tolist() == [(d * total + offset) // of for d in draws]


def test_an_expected_share_is_kept_over_epochs() -> None:
    """A row whose expected count is a fraction is drawn in that fraction of the epochs, evenly spread."""
    values = np.array([1.0, 2.0, 5.0, 0.3])
    drawn_from = Population((Stream(4, None, running_totals(values)),), np.array([1]), 0, 1, False)
    counts = np.zeros(4)
    for epoch in range(100):
        counts += np.bincount(np.ravel(_epoch(drawn_from, 8, epoch=epoch)), minlength=4)
        assert (np.abs(counts - (epoch + 1) * 8 * values / values.sum()) < 3).all()


def test_the_weight_column_is_followed(tmp_path: Path) -> None:
    weights = [float(row % 4) for row in range(96)]
    drawn_from = population(_reader(tmp_path, weight=weights), Sampling())
    rows = np.ravel(_epoch(drawn_from, 96))
    expected = 96 * np.array(weights) / np.sum(weights)
    counts = np.bincount(rows, minlength=96)
    assert (np.abs(counts - expected) < 1).all()
    assert (counts[::4] == 0).all()
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.3  # scattered over the epoch


def test_equal_weights_are_a_permutation(tmp_path: Path) -> None:
    reader = _reader(tmp_path, weight=[0.5] * 96)
    by_weight, uniform = (population(reader, Sampling(by=by)) for by in ("weight", "uniform"))
    assert _epoch(by_weight, 96) == _epoch(uniform, 96)
    assert sorted(np.ravel(_epoch(uniform, 96))) == list(range(96))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 1e9])
def test_clusters_are_drawn_by_temperature(tmp_path: Path, temperature: float) -> None:
    sizes = [60, 24, 9, 3]
    labels = np.repeat(np.arange(4), sizes)[np.random.default_rng(0).permutation(96)]
    reader = _reader(tmp_path, cluster=[[0, int(label)] for label in labels])
    rows = np.ravel(_epoch(population(reader, Sampling(by="cluster", temperature=temperature)), 96))
    wanted = np.array(sizes) ** (1 / temperature)
    counts = np.bincount(labels[rows], minlength=4)
    assert (np.abs(counts - 96 * wanted / wanted.sum()) < 1).all()
    same = np.ravel(_epoch(population(reader, Sampling(by="cluster", temperature=temperature, level=0)), 96))
    assert sorted(same) == list(range(96))  # one top cluster


def test_cluster_weights_of_one_temperature_are_equal() -> None:
    assert np.array_equal(cluster_weights(np.array([3, 3, 3, 7]), 1.0), np.ones(4))


def test_a_cluster_of_the_same_number_under_another_parent_is_another(tmp_path: Path) -> None:
    reader = _reader(tmp_path, cluster=[[int(row >= 72), 0] for row in range(96)])
    rows = np.ravel(_epoch(population(reader, Sampling(by="cluster", temperature=1e9)), 96))
    assert abs((rows >= 72).sum() - 48) <= 1


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_mixture_has_its_shares(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources, values = rng.integers(0, 2, 50), rng.random(50) + 0.01
    sources[:2] = 0, 1
    mixed = mixture_weights(values, sources, np.array([share, 1 - share]))
    assert np.isclose(mixed[sources == 0].sum(), share)
    inside = values[sources == 1]
    if share < 1:
        assert np.allclose(mixed[sources == 1] / (1 - share), inside / inside.sum())


def test_batches_of_mixed_and_of_single_sources(tmp_path: Path) -> None:
    names = ["web" if row % 4 else "curated" for row in range(96)]
    reader = _reader(tmp_path, source=names)
    sampling = Sampling(shares={"curated": 0.0, "web": 1.0}, homogeneous={"curated": 0.25})
    drawn_from = population(reader, sampling)
    for epoch in range(4):
        batches = _epoch(drawn_from, 96, seed=5, epoch=epoch)
        kinds = [{names[row] for row in rows} for rows in batches]
        assert all(len(kind) == 1 for kind in kinds)
        assert Counter(min(kind) for kind in kinds) == {"curated": 3, "web": 9}
        curated = [row for rows, kind in zip(batches, kinds, strict=True) if kind == {"curated"} for row in rows]
        assert sorted(curated) == list(range(0, 96, 4))  # 24 draws of 24 rows: each once


def test_sources_get_their_weights(tmp_path: Path) -> None:
    names = ["a" if row < 24 else "b" for row in range(96)]
    reader = _reader(tmp_path, source=names, source_weight=[3.0 if name == "a" else 1.0 for name in names])
    rows = np.ravel(_epoch(population(reader, Sampling(shares="source_weight")), 96))
    assert (rows < 24).sum() == 72


def test_mistakes_are_named(tmp_path: Path) -> None:
    reader = _reader(tmp_path)
    for sampling, words in (
        (Sampling(shares={"photographs": 1.0}), "says nothing of 'scans'"),
        (Sampling(homogeneous={"imagenet": 0.1}), "'imagenet', but the shards' sources are 'photographs', 'scans'"),
        (Sampling(homogeneous={"photographs": 0.7, "scans": 0.7}), "more than 1"),
        (Sampling(by="cluster", level=2), "have 2 levels"),
    ):
        with pytest.raises(ValueError, match=words):
            population(reader, sampling)
    with pytest.raises(ValueError, match="all weights are zero"):
        population(reader, Sampling(), np.zeros(96))
    with pytest.raises(ValueError, match="not negative"):
        running_totals(np.array([1.0, -1.0]))


def test_shards_that_do_not_answer_for_sources_are_not_sampled_by_them(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist(sample_rows(16), schema=SAMPLES)
    write_index(tmp_path, [write_shard(tmp_path / "shard-0.arrow", rows)], 16, sample_by=())
    with pytest.raises(ValueError, match="sample_by"):
        population(ShardReader(tmp_path), Sampling(by="cluster"))


SAMPLINGS = (
    Sampling(by="cluster", temperature=3.0),
    Sampling(shares={"photographs": 0.2, "scans": 0.8}, homogeneous={"scans": 0.3}),
    Sampling(window=1),
)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: str(SAMPLINGS.index(sampling)))
def test_ranks_share_out_the_same_batches(tmp_path: Path, sampling: Sampling) -> None:
    drawn_from = population(_reader(tmp_path), sampling)
    for step in range(15):
        alone = drawn_from.batch(step, 0, 1, BATCH, 96, 1)[0]
        for world in (2, 4):
            parts = [drawn_from.batch(step, rank, world, BATCH, 96, 1)[0] for rank in range(world)]
            assert np.array_equal(np.concatenate(parts), alone)


def test_weights_change_with_an_epoch_and_survive_a_resume(tmp_path: Path) -> None:
    reader = _reader(tmp_path)
    options = {"canvas_size": 16, "global_batch": BATCH, "seed": 3}
    last = np.zeros(96)
    last[-5:] = 1.0
    with contextlib.closing(Loader(reader, **options, threads=2)) as loader:
        first = [loader.batch(step).rows for step in range(11)]
        loader.set_weights(1, last)  # the first batches of epoch 1 were in preparation
        first.append(loader.batch(11).rows)
        assert sorted(np.concatenate(first)) == list(range(96))
        second = [loader.batch(step).rows for step in range(12, 24)]
        assert set(np.concatenate(second)) == set(range(91, 96))
        with pytest.raises(ValueError, match="has begun"):
            loader.set_weights(1, np.ones(96))
        loader.set_weights(2, np.ones(96))
        saved = loader.state_dict()
        third = [loader.batch(step).rows for step in range(24, 30)]
    parts = [Loader(reader, **options, threads=3, rank=rank, world=4) for rank in range(4)]
    for loader in parts:
        loader.load_state_dict(saved)
    for expected, step in [*zip(third, range(24, 30), strict=True), *zip(second, range(12, 24), strict=True)]:
        assert np.array_equal(np.concatenate([loader.batch(step).rows for loader in parts]), expected)
    for loader in parts:
        loader.close()
