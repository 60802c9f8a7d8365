"""Shards: training samples in Arrow IPC files that are mapped into memory, any row in constant time."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
ROWS_PER_BATCH = 256
INDEX = "index.json"

SAMPLES = pa.schema(
    [
        ("row", pa.int64()),  # position among all samples, in the order of image_id
        ("image_id", pa.string()),
        ("bytes", pa.large_binary()),  # encoded image
        ("orientation", pa.int8()),  # EXIF orientation that a decoder has to apply
        ("caption", pa.string()),
        ("label", pa.string()),
        ("cluster", pa.list_(pa.int32())),  # path from the top level down
        ("group_id", pa.string()),  # duplicate group
        ("weight", pa.float32()),
    ]
)

PROVENANCE = ("cluster", "group_id")
"""Columns that say where a sample came from and that no loader reads: a curation that names its clusters anew but
keeps the same images gives shards of the same digest, and trains nothing again."""


class ShardError(Exception):
    """Shards are missing, damaged, or of a version that this code cannot read."""


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the index: file name, rows, SHA-256 of the file."""

    name: str
    rows: int
    sha256: str


def write_shard(path: Path, samples: pa.Table) -> ShardEntry:
    """Commit one shard by rename: uncompressed record batches of `ROWS_PER_BATCH` rows. The same rows, the same bytes.

    samples: table with the columns of `SAMPLES`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    samples = samples.select(SAMPLES.names).cast(SAMPLES).combine_chunks()
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, SAMPLES) as writer:
        for first in range(0, samples.num_rows, ROWS_PER_BATCH):
            chunk = samples.slice(first, ROWS_PER_BATCH).combine_chunks()
            writer.write_batch(chunk.to_batches()[0])
    temporary.replace(path)
    return shard_entry(path, samples.num_rows)


def shard_entry(path: Path, rows: int) -> ShardEntry:
    """The index entry of a committed shard."""
    with path.open("rb") as file:
        return ShardEntry(path.name, rows, hashlib.file_digest(file, "sha256").hexdigest())


def write_index(folder: Path, entries: Sequence[ShardEntry], rows_per_shard: int) -> None:
    """Commit `index.json`; entries are in the order of rows, and all but the last hold `rows_per_shard` rows."""
    index = {
        "schema_version": SCHEMA_VERSION,
        "rows": sum(entry.rows for entry in entries),
        "rows_per_shard": rows_per_shard,
        "shards": [asdict(entry) for entry in entries],
    }
    temporary = folder / f".{INDEX}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(index, indent=1) + "\n")
    temporary.replace(folder / INDEX)


class ShardReader:
    """Random access to the samples of a shard folder. Files are mapped when first touched, never read whole.

    Raises ShardError where the index is missing or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            index = json.loads((self.folder / INDEX).read_text())
        except (OSError, ValueError) as error:
            raise ShardError(f"{self.folder} holds no readable {INDEX}: {error}") from error
        if index["schema_version"] != SCHEMA_VERSION:
            raise ShardError(f"{self.folder}: shards of version {index['schema_version']}, not {SCHEMA_VERSION}")
        self.rows: int = index["rows"]
        self.rows_per_shard: int = index["rows_per_shard"]
        self.entries = [ShardEntry(**entry) for entry in index["shards"]]
        self._files: dict[int, pa.ipc.RecordBatchFileReader] = {}
        self._lock = threading.Lock()  # Arrow's file readers are not said to be safe for threads

    def __len__(self) -> int:
        return self.rows

    def encoded(self, row: int) -> tuple[bytes, int]:
        """The encoded image of a row and its EXIF orientation (1 where none is known)."""
        batch, index = self._find(row)
        data = batch.column("bytes")[index].as_py()
        return data or b"", batch.column("orientation")[index].as_py() or 1

    def sample(self, row: int) -> dict[str, Any]:
        """Every column of a row."""
        batch, index = self._find(row)
        return {name: batch.column(name)[index].as_py() for name in batch.schema.names}

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, in the order of rows."""
        batches = [self._file(s).get_batch(b) for s in range(len(self.entries)) for b in range(self._batches(s))]
        return pa.chunked_array([batch.column(name) for batch in batches], type=SAMPLES.field(name).type)

    def damaged(self) -> list[str]:
        """Names of shards whose bytes are not those that were written."""
        return [
            entry.name
            for entry in self.entries
            if not (self.folder / entry.name).exists() or shard_entry(self.folder / entry.name, entry.rows) != entry
        ]

    def _find(self, row: int) -> tuple[pa.RecordBatch, int]:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        shard, within = divmod(int(row), self.rows_per_shard)
        with self._lock:
            return self._file(shard).get_batch(within // ROWS_PER_BATCH), within % ROWS_PER_BATCH

    def _batches(self, shard: int) -> int:
        return self._file(shard).num_record_batches

    def _file(self, shard: int) -> pa.ipc.RecordBatchFileReader:
        if shard not in self._files:
            path = self.folder / self.entries[shard].name
            try:
                self._files[shard] = pa.ipc.open_file(pa.memory_map(str(path)))
            except (OSError, pa.ArrowInvalid) as error:
                raise ShardError(f"{path} cannot be read: {error}") from error
        return self._files[shard]


def content_digest(reader: ShardReader) -> str:
    """SHA-256 of the samples in the order of rows, whatever shards they lie in, without their provenance; image_id
    stands for the bytes."""
    digest = hashlib.sha256()
    names = [name for name in SAMPLES.names if name not in ("row", "bytes", *PROVENANCE)]
    columns = [reader.column(name) for name in names]
    for values in zip(*columns, strict=True):
        line = [value.as_py() for value in values]
        digest.update(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
