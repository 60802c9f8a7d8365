from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.training.samples import sample_rows, write_sample_shards
from training.shards import SAMPLES, ShardError, ShardReader, content_digest, write_index, write_shard


def test_any_row_comes_back(tmp_path: Path) -> None:
    reader = ShardReader(write_sample_shards(tmp_path, 96, rows_per_shard=40))
    rows = sample_rows(96)
    assert len(reader) == 96
    for row in (0, 39, 40, 95):
        assert reader.sample(row) == rows[row]
        assert reader.encoded(row) == (rows[row]["bytes"], 1)
    with pytest.raises(IndexError):
        reader.sample(96)


def test_rows_beyond_a_record_batch(tmp_path: Path) -> None:
    tiny = [{**sample_rows(2)[0], "row": row, "bytes": str(row).encode()} for row in range(700)]
    entry = write_shard(tmp_path / "shard-0.arrow", pa.Table.from_pylist(tiny, schema=SAMPLES))
    write_index(tmp_path, [entry], 700)
    reader = ShardReader(tmp_path)
    assert [reader.encoded(row)[0] for row in (0, 255, 256, 511, 512, 699)] == [
        str(row).encode() for row in (0, 255, 256, 511, 512, 699)
    ]


def test_the_digest_is_of_the_samples_not_of_their_place(tmp_path: Path) -> None:
    one = content_digest(ShardReader(write_sample_shards(tmp_path / "a", 96, rows_per_shard=40)))
    other = content_digest(ShardReader(write_sample_shards(tmp_path / "b", 96, rows_per_shard=7)))
    fewer = content_digest(ShardReader(write_sample_shards(tmp_path / "c", 95, rows_per_shard=40)))
    assert one == other
    assert one != fewer


def test_the_same_rows_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sample_shards(tmp_path / name)
    assert (tmp_path / "a/shard-0.arrow").read_bytes() == (tmp_path / "b/shard-0.arrow").read_bytes()


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = write_sample_shards(tmp_path)
    path = folder / "shard-40.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert ShardReader(folder).damaged() == ["shard-40.arrow"]


def test_unreadable_shards_say_so(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"index\.json"):
        ShardReader(tmp_path)
    folder = write_sample_shards(tmp_path)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "schema_version": 99}))
    with pytest.raises(ShardError, match="version 99"):
        ShardReader(folder)
