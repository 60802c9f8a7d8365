"""The crawl's table on disk: rows, and the parts that they are written in.

A part of the list gives two files: `part-<n>-pictures` with the rows that hold bytes, and `part-<n>-others` with the
failures and notes. So a later crawl can share the big files as they are, whatever became of the failures since.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from stages.crawl.reasons import is_transient
from stages.crawl.sniffing import image_mime
from stages.crawl.targets import Target
from stages.tables import FETCHES, part_paths, table_from_rows

PICTURES, OTHERS = "pictures", "others"
_FLUSH_BYTES = 4_000_000
_FLUSH_ROWS = 128
_COMPRESSION = {name: "none" if name == "bytes" else "zstd" for name in FETCHES.schema.names}

Row = dict[str, Any]


def ok_row(target: Target, body: bytes, **fields: Any) -> Row:
    """Row of a picture that came. fields: further columns of FETCHES."""
    return {
        **base_row(target, **fields),
        "status": "ok",
        "bytes": body,
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "mime": image_mime(body),
        **fields,
    }


def other_row(target: Target, status: str, reason: str, **fields: Any) -> Row:
    """Row of what failed or was skipped. fields: further columns of FETCHES."""
    return {**base_row(target, **fields), "status": status, "reason": reason, **fields}


def base_row(target: Target, final_url: str | None = None, **_: Any) -> Row:
    """What the list says of a target, as columns of FETCHES; `fetched_at` is now."""
    now = datetime.now(UTC)
    return {
        "source": target.source,
        "source_weight": target.source_weight,
        "url": target.url,
        "version": target.version,
        "page_url": target.page_url,
        "host": host_of(final_url or target.url),
        "caption": target.caption,
        "label": target.label,
        "licence": target.licence,
        "metadata": target.metadata,
        "attempts": 0,
        "started_at": now,
        "fetched_at": now,
    }


def host_of(url: str) -> str | None:
    """Host of an http(s) URL, in lower case; None where there is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        return None


class PartWriter:
    """Writes the rows of one part in row groups of bounded size. `commit` it, or `abandon` it."""

    def __init__(self, work: Path, index: int) -> None:
        self._pictures = _RowFile(part_path(work, index, PICTURES))
        self._others = _RowFile(part_path(work, index, OTHERS))

    def add(self, row: Row) -> None:
        (self._pictures if row.get("bytes") is not None else self._others).add(row)

    def commit(self) -> None:
        """Make both files part of the table; the pictures last, whose presence says that the part is whole."""
        self._others.commit()
        self._pictures.commit()

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._others.abandon()
        self._pictures.abandon()


class _RowFile:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file = pq.ParquetWriter(
            self._temporary, FETCHES.schema, compression=_COMPRESSION, use_dictionary=["source", "status", "host"]
        )
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self._bytes += len(row.get("bytes") or b"")
        if self._bytes >= _FLUSH_BYTES or len(self._rows) >= _FLUSH_ROWS:
            self._flush()

    def commit(self) -> None:
        self._flush()
        self._file.close()
        self._temporary.replace(self._path)

    def abandon(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(table_from_rows(FETCHES, self._rows))
        self._rows, self._bytes = [], 0


@contextmanager
def writing_part(work: Path, index: int) -> Iterator[PartWriter]:
    """Write part `index` of the list, committed when the block ends well."""
    writer = PartWriter(work, index)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise
    writer.commit()


def part_path(work: Path, index: int, what: str = PICTURES) -> Path:
    """Where the rows of part `index` of the list belong."""
    return work / FETCHES.name / f"part-{index:06d}-{what}.parquet"


def has_part(work: Path, index: int) -> bool:
    """Whether part `index` is finished."""
    return part_path(work, index).exists()


def drop_transient(work: Path) -> None:
    """Remove the parts with failures that another try may cure, so that a further attempt fetches them again."""
    for others in part_paths(work, FETCHES.name):
        if others.stem.endswith(OTHERS):
            reasons = pq.read_table(others, columns=["reason"])["reason"].unique().to_pylist()
            if any(is_transient(reason or "") for reason in reasons):
                others.with_name(others.name.replace(OTHERS, PICTURES)).unlink(missing_ok=True)
                others.unlink()
