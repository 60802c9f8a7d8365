"""Arbitrary samples for property tests, and a folder of the oldest version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from training.shards import SAMPLES, ShardEntry, ShardsWriter
from training.shards.schema import SAMPLES_1

TEXT = st.text(max_size=12)
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF0000WEBP", b"II*\x00", b"")

encoded = st.builds(lambda head, tail: head + tail, st.sampled_from(SIGNATURES), st.binary(min_size=1, max_size=40))
sample = st.fixed_dictionaries(
    {
        "row": st.just(0),
        "image_id": TEXT,
        "bytes": encoded,
        "frames": st.lists(encoded, max_size=12),
        "orientation": st.none() | st.integers(1, 8),
        "source": st.none() | TEXT,
        "source_weight": st.none() | st.floats(0, 1e6, width=32),
        "captions": st.none() | st.lists(TEXT, max_size=3),
        "label": st.none() | TEXT,
        "cluster": st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "group_id": st.none() | TEXT,
        "weight": st.none() | st.floats(0, 1e6, width=32),
    }
)
samples = st.lists(sample, min_size=1, max_size=30)


def write(folder: Path, rows: list[dict[str, Any]], rows_per_shard: int = 7, rows_per_batch: int = 3) -> Path:
    """A folder of these samples, numbered in their order."""
    with ShardsWriter(folder, rows_per_shard, rows_per_batch) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=SAMPLES))
        writer.finish()
    return folder


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "row": number} for number, row in enumerate(rows)]


def write_version_1(folder: Path, rows: list[dict[str, Any]], rows_per_shard: int) -> Path:
    """A folder as version 1 wrote it."""
    folder.mkdir(parents=True)
    shards = []
    for first in range(0, len(rows), rows_per_shard):
        table = pa.Table.from_pylist(rows[first : first + rows_per_shard], schema=SAMPLES_1)
        path = folder / f"shard-{first}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SAMPLES_1) as writer:
            writer.write_table(table, max_chunksize=256)
        entry = ShardEntry(path.name, table.num_rows, hashlib.sha256(path.read_bytes()).hexdigest())
        shards.append({"name": entry.name, "rows": entry.rows, "sha256": entry.sha256})
    index = {"schema_version": 1, "rows": len(rows), "rows_per_shard": rows_per_shard, "shards": shards}
    (folder / "index.json").write_text(json.dumps(index))
    return folder
