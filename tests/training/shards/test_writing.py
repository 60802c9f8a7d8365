from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.samples import sample_rows, write_sample_shards
from tests.training.shards.arbitrary import numbered, samples, write
from training.shards import SAMPLES, ShardReader, ShardsWriter, content_digest, write_index


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=40, deadline=None)
@given(rows=samples, cuts=st.lists(st.integers(0, 30)), shard=st.integers(1, 12), batch=st.integers(1, 12))
def test_every_row_comes_back_however_the_stream_was_cut(
    rows: list[dict[str, Any]], cuts: list[int], shard: int, batch: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole = write(Path(name) / "whole", rows, shard, batch)
        with ShardsWriter(Path(name) / "cut", shard, batch) as writer:
            bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
            for first, stop in pairwise(bounds):
                writer.write(pa.Table.from_pylist(rows[first:stop], schema=SAMPLES))
            writer.finish()
        assert contents(whole) == contents(Path(name) / "cut")
        reader = ShardReader(whole)
        assert [reader.sample(row) for row in range(len(reader))] == numbered(rows)


def test_the_same_rows_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sample_shards(tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_unfinished_shard_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardsWriter(tmp_path, rows_per_shard=4, rows_per_batch=2) as writer:
        writer.write(pa.Table.from_pylist(sample_rows(7), schema=SAMPLES))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["shard-000000000000.arrow"]


def test_the_digest_is_of_the_samples_not_of_their_place(tmp_path: Path) -> None:
    one = content_digest(ShardReader(write_sample_shards(tmp_path / "a", 96, rows_per_shard=40)))
    other = content_digest(ShardReader(write_sample_shards(tmp_path / "b", 96, rows_per_shard=7)))
    fewer = content_digest(ShardReader(write_sample_shards(tmp_path / "c", 95, rows_per_shard=40)))
    assert one == other
    assert one != fewer


@pytest.mark.parametrize(
    ("column", "value", "sample_by", "counts"),
    [
        ("cluster", [9], [], False),
        ("cluster", [9], ["source"], False),
        ("cluster", [9], ["cluster"], True),
        ("source", "elsewhere", ["cluster"], False),
        ("source", "elsewhere", ["source"], True),
        ("source_weight", 9.0, ["source"], True),
        ("group_id", "other", ["source", "cluster"], False),
        ("weight", 9.0, [], True),
        ("captions", ["more"], [], True),
        ("frames", [b"x"], [], True),
        ("orientation", 3, [], True),
    ],
)
def test_the_digest_covers_what_training_may_read(
    tmp_path: Path, column: str, value: Any, sample_by: list[str], counts: bool
) -> None:
    digests = []
    for name, changed in (("a", {}), ("b", {column: value})):
        rows = sample_rows(5)
        rows[3] |= changed
        index = ShardReader(write(tmp_path / name, rows)).index
        write_index(tmp_path / name, index.shards, 7, rows_per_batch=3, sample_by=sample_by)
        digests.append(content_digest(ShardReader(tmp_path / name)))
    assert (digests[0] != digests[1]) == counts
