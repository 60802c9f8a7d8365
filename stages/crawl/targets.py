"""The list of what a crawl is going to fetch: found once, saved, and then worked off in parts of fixed size.

The list never stands in memory as a whole: it is written as it is found, and read a part at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.columns import table_of

_PARTS_PER_FILE = 64
_ABOUT = "about.json"
_TYPES = {"http_status": "int32", "source_weight": "float32"}


@dataclass(frozen=True)
class Target:
    """One thing to fetch, or a note about one that will not be.

    url: http(s) URL, file:// URI, or where else it stands. version: what says that a file is unchanged.
    place: None for what is fetched over HTTP; else where its bytes stand, for `stages.crawl.reading`.
    origin: URL that a data set names for a picture that it holds itself.
    metadata: further columns of the source, as a JSON object with sorted keys.
    outcome: set where it is known already: "skipped:<reason>" or "failed:<reason>".
    """

    source: str
    url: str
    version: str = ""
    place: str | None = None
    origin: str | None = None
    page_url: str | None = None
    caption: str | None = None
    label: str | None = None
    licence: str | None = None
    metadata: str | None = None
    source_weight: float = 1.0
    outcome: str | None = None
    http_status: int | None = None

    def key(self) -> bytes:
        """16 bytes that stand for (source, url)."""
        return row_key(self.source, self.url)


def row_key(*texts: str | float | None) -> bytes:
    """16 bytes that stand for a sequence of texts and numbers."""
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).digest()


class SeenKeys:
    """Which keys came before; on disk, so that memory does not grow with the list."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA cache_size=-32000")
        self._database.execute("CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, key: bytes) -> bool:
        """Whether the key is new."""
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def __contains__(self, key: bytes) -> bool:
        return self._database.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone() is not None

    def close(self) -> None:
        self._database.close()


class TargetWriter:
    """Writes the list into `folder`, each URL once a source; use as a context manager, which commits it by rename."""

    def __init__(self, folder: Path, part_rows: int) -> None:
        self._folder = folder
        self._temporary = folder.with_name(f".{folder.name}.tmp")
        self._part_rows = part_rows
        self._rows: list[dict[str, Any]] = []
        self._parts = self._count = 0
        self._file: Any = None
        self._began = datetime.now(UTC)

    def __enter__(self) -> TargetWriter:
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._seen = SeenKeys(self._temporary / "seen.sqlite")
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None:
            self._flush()
        if self._file is not None:
            self._file.close()
        self._seen.close()
        if failed is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        (self._temporary / "seen.sqlite").unlink()
        about = {"rows": self._count, "part_rows": self._part_rows, "began": self._began.isoformat()}
        (self._temporary / _ABOUT).write_text(json.dumps(about))
        self._temporary.rename(self._folder)

    def add(self, target: Target) -> None:
        """Append a target unless its source named the same URL before."""
        if not self._seen.add(target.key()):
            return
        self._rows.append(vars(target))
        self._count += 1
        if len(self._rows) == self._part_rows:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        types = [(field.name, getattr(pa, _TYPES.get(field.name, "string"))()) for field in fields(Target)]
        if self._parts % _PARTS_PER_FILE == 0:
            if self._file is not None:
                self._file.close()
            path = _file_of(self._temporary, self._parts)
            self._file = pq.ParquetWriter(path, pa.schema(types), compression="zstd")
        self._file.write_table(table_of(self._rows, pa.schema(types)))
        self._rows = []
        self._parts += 1


class TargetList:
    """A saved list. `len` is the number of targets, `parts` the number of parts that they are fetched in, `began` the
    time at which the crawl began to look for them."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / _ABOUT).read_text())
        self._folder = folder
        self._rows = int(about["rows"])
        self.part_rows = int(about["part_rows"])
        self.began = datetime.fromisoformat(about["began"])
        self.parts = -(-self._rows // self.part_rows)

    def __len__(self) -> int:
        return self._rows

    def part(self, index: int) -> list[Target]:
        """The targets of one part."""
        import pyarrow.parquet as pq

        file = pq.ParquetFile(_file_of(self._folder, index))
        return [Target(**row) for row in file.read_row_group(index % _PARTS_PER_FILE).to_pylist()]

    def __iter__(self) -> Iterator[Target]:
        for index in range(self.parts):
            yield from self.part(index)


def saved(folder: Path) -> bool:
    """Whether a whole list stands in `folder`."""
    return (folder / _ABOUT).is_file()


def _file_of(folder: Path, part: int) -> Path:
    return folder / f"targets-{part // _PARTS_PER_FILE:06d}.parquet"
