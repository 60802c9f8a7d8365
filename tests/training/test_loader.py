from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.training.samples import sample_rows, write_sample_shards
from training.decoding import UndecodableError
from training.loader import Loader
from training.order import batch_rows
from training.shards import SAMPLES, ShardReader, write_index, write_shard


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
