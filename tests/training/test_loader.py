from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.training.samples import sample_rows, write_sample_shards
from training.canvases import CanvasMemory
from training.decoding import UndecodableError
from training.loader import Loader
from training.order import batch_rows
from training.sampling import Sampling
from training.shards import SAMPLES, ShardCache, ShardReader, write_index, write_shard


def test_ranks_threads_and_cache_change_nothing(tmp_path: Path) -> None:
    reader = ShardReader(write_sample_shards(tmp_path, 50))
    options = {"canvas_size": 40, "global_batch": 12, "seed": 3}
    with contextlib.closing(Loader(reader, **options)) as alone:
        expected = [alone.batch(step) for step in range(6)]
    for cache in (0, 20 * 3 * 40 * 40):
        ranks = [Loader(reader, **options, rank=r, world=2, threads=r + 1, cache_bytes=cache) for r in range(2)]
        for step in (0, 1, 5, 2):
            parts = [loader.batch(step) for loader in ranks]
            assert torch.equal(torch.cat([part.canvases for part in parts]), expected[step].canvases)
            assert np.array_equal(np.concatenate([part.aspects for part in parts]), expected[step].aspects)
            assert np.array_equal(np.concatenate([part.rows for part in parts]), expected[step].rows)
        for loader in ranks:
            loader.close()


def _with_broken(folder: Path, broken: set[int], count: int = 10) -> ShardReader:
    rows = [{**row, "bytes": b"junk"} if row["row"] in broken else row for row in sample_rows(count)]
    write_index(folder, [write_shard(folder / "shard-0.arrow", pa.Table.from_pylist(rows, schema=SAMPLES))], count)
    return ShardReader(folder)


def test_an_undecodable_row_is_replaced_and_remembered(tmp_path: Path) -> None:
    reader = _with_broken(tmp_path, {3, 9})
    with contextlib.closing(Loader(reader, canvas_size=40, global_batch=10, seed=0)) as loader:
        batch = loader.batch(0)
    at = {int(row): position for position, row in enumerate(batch_rows(0, 0, 1, 10, 10, 0))}
    assert torch.equal(batch.canvases[at[3]], batch.canvases[at[4]])
    assert torch.equal(batch.canvases[at[9]], batch.canvases[at[0]])
    assert set(loader.undecodable) == {3, 9}
    assert "UnidentifiedImageError" in loader.undecodable[3]


def test_nothing_decodable_is_an_error(tmp_path: Path) -> None:
    reader = _with_broken(tmp_path, set(range(4)), count=4)
    loader = Loader(reader, canvas_size=40, global_batch=4, seed=0)
    with contextlib.closing(loader), pytest.raises(UndecodableError, match="no row"):
        loader.batch(0)


def test_resuming_with_other_threads_and_ranks_is_exact(tmp_path: Path) -> None:
    reader = ShardReader(write_sample_shards(tmp_path, 50))
    options = {"canvas_size": 24, "global_batch": 8, "seed": 4, "sampling": Sampling(window=1), "cache_bytes": 0}
    with contextlib.closing(Loader(reader, **options, threads=2)) as loader:
        expected = [loader.batch(step) for step in range(9)]
    with contextlib.closing(Loader(reader, **options, threads=3)) as resumed:
        for step in range(4, 9):
            batch = resumed.batch(step)
            assert torch.equal(batch.canvases, expected[step].canvases)
            assert np.array_equal(batch.rows, expected[step].rows)
    ranks = [Loader(reader, **options, threads=1, rank=rank, world=4) for rank in range(4)]
    for step in range(4, 9):
        parts = [loader.batch(step) for loader in ranks]
        assert torch.equal(torch.cat([part.canvases for part in parts]), expected[step].canvases)
        assert np.array_equal(np.concatenate([part.aspects for part in parts]), expected[step].aspects)
    for loader in ranks:
        loader.close()


def test_a_batch_that_is_held_is_not_overwritten(tmp_path: Path) -> None:
    reader = ShardReader(write_sample_shards(tmp_path, 50))
    with contextlib.closing(Loader(reader, canvas_size=24, global_batch=8, seed=4)) as loader:
        held = [loader.batch(0).canvases[2:4], loader.batch(1).canvases]
        copies = [tensor.clone() for tensor in held]
        places = {tensor.data_ptr() for tensor in held}
        for step in range(2, 12):
            batch = loader.batch(step)
            assert not {batch.canvases.data_ptr()} & places
            del batch
        assert all(torch.equal(tensor, copy) for tensor, copy in zip(held, copies, strict=True))


def test_memory_of_batches_is_used_again() -> None:
    memory = CanvasMemory((4, 8, 8, 3))
    first = memory.take()
    part, place = first[1:].permute(0, 3, 1, 2), first.data_ptr()
    del first
    assert memory.take().data_ptr() != place
    del part
    assert memory.take().data_ptr() == place


def test_a_row_without_weight_replaces_nothing(tmp_path: Path) -> None:
    reader = _with_broken(tmp_path, {3})
    with contextlib.closing(Loader(reader, canvas_size=16, global_batch=5, seed=0)) as loader:
        weights = np.array([1.0, 1, 1, 1, 0, 0, 0, 1, 1, 0])
        loader.set_weights(0, weights)
        batches = [loader.batch(step) for step in range(2)]
        assert set(loader.undecodable) == {3}
        state = loader.state_dict()
    shown = {int(row): canvas for batch in batches for row, canvas in zip(batch.rows, batch.canvases, strict=True)}
    assert set(shown) == set(np.flatnonzero(weights).tolist())
    assert torch.equal(shown[3], shown[7])
    with contextlib.closing(Loader(reader, canvas_size=16, global_batch=5, seed=0)) as resumed:
        resumed.load_state_dict(state)
        assert set(resumed.undecodable) == {3}


def test_remote_shards_are_fetched_ahead_and_read_the_same(tmp_path: Path) -> None:
    local = write_sample_shards(tmp_path / "local", 50)
    store = fsspec.filesystem("memory")
    store.put(str(local), "/loader-test", recursive=True)
    asked: list[int] = []

    class Watched(ShardReader):
        def prefetch(self, rows: Iterable[int]) -> None:
            rows = list(rows)
            asked.extend(rows)
            super().prefetch(rows)

    options = {"canvas_size": 16, "global_batch": 4, "seed": 0, "sampling": Sampling(window=1)}
    remote = Watched("memory://loader-test", cache=ShardCache(tmp_path / "cache", 1 << 20))
    with (
        contextlib.closing(Loader(ShardReader(local), **options)) as here,
        contextlib.closing(Loader(remote, **options)) as there,
    ):
        for step in range(6):
            assert torch.equal(here.batch(step).canvases, there.batch(step).canvases)
    order = np.concatenate([batch_rows(s, 0, 1, 4, 50, 0, window=1, block=256) for s in range(len(asked) // 4)])
    assert asked == order.tolist()
    assert len(asked) > 4 * 8
