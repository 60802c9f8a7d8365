"""The crawl's table on disk: parts written in bounded memory, and rows taken over from earlier crawls."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.artifact import Artifact
from stages.base import committed
from stages.crawl.sniffing import image_mime
from stages.crawl.targets import Target
from stages.tables import FETCHES, part_paths, table_from_rows

_FLUSH_BYTES = 32_000_000
_FLUSH_ROWS = 128
_TAKEN_OVER = ("final_url", "http_status", "mime", "sha256", "size", "bytes", "fetched_at")
_TRANSIENT = "^(timeout|dns|connect|tls|incomplete|http_429|http_5..)$"

Row = dict[str, Any]


def ok_row(target: Target, body: bytes, **fields: Any) -> Row:
    """Row of a picture that came."""
    return {
        **_base(target),
        "status": "ok",
        "bytes": body,
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "mime": image_mime(body),
        "fetched_at": datetime.now(UTC),
        **fields,
    }


def other_row(target: Target, status: str, reason: str, **fields: Any) -> Row:
    """Row of what failed or was skipped."""
    return {**_base(target), "status": status, "reason": reason, "fetched_at": datetime.now(UTC), **fields}


def _base(target: Target) -> Row:
    return {
        "source": target.source,
        "url": target.url,
        "version": target.version,
        "page_url": target.page_url,
        "caption": target.caption,
        "label": target.label,
    }


class PartWriter:
    """Collects rows and writes them as row groups of bounded size."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetWriter(path, FETCHES.schema, compression="zstd", use_dictionary=["source", "status"])
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self._bytes += len(row.get("bytes") or b"")
        if self._bytes >= _FLUSH_BYTES or len(self._rows) >= _FLUSH_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(table_from_rows(FETCHES, self._rows))
        self._rows, self._bytes = [], 0


def part_path(work: Path, index: int) -> Path:
    """Where part `index` of the table belongs."""
    return work / FETCHES.name / f"part-{index:06d}.parquet"


@contextmanager
def writing_part(work: Path, index: int) -> Iterator[PartWriter]:
    """Write part `index`, committed by rename when the block ends well."""
    with committed(part_path(work, index)) as temporary:
        writer = PartWriter(temporary)
        try:
            yield writer
        finally:
            writer.close()


class Earlier:
    """Pictures that earlier crawls of the same family hold, by URL and version."""

    def __init__(self, artifacts: Sequence[Artifact]) -> None:
        self._places: dict[tuple[str, str], tuple[Path, int]] = {}
        self._parts: OrderedDict[Path, pa.Table] = OrderedDict()
        for artifact in artifacts:
            for path in part_paths(artifact.path, FETCHES.name):
                self._index(path)

    def _index(self, path: Path) -> None:
        table = pq.read_table(path, columns=["url", "version", "status"])
        columns = (table[name].to_pylist() for name in table.column_names)
        for row, (url, version, status) in enumerate(zip(*columns, strict=True)):
            if status == "ok":
                self._places.setdefault((url, version), (path, row))

    def holds(self, target: Target) -> bool:
        return target.outcome is None and (target.url, target.version) in self._places

    def row(self, target: Target) -> Row:
        """The row of a target that it holds: the picture as it was fetched then, the texts as they are now."""
        path, index = self._places[(target.url, target.version)]
        old = self._part(path).slice(index, 1).to_pylist()[0]
        return {**_base(target), "status": "ok", **old}

    def _part(self, path: Path) -> pa.Table:
        if path not in self._parts:
            self._parts[path] = pq.read_table(path, columns=list(_TAKEN_OVER))
            if len(self._parts) > 2:
                self._parts.popitem(last=False)
        self._parts.move_to_end(path)
        return self._parts[path]


def drop_transient(work: Path) -> None:
    """Remove the parts with failures that another try may cure, so that a further attempt fetches them again."""
    for path in part_paths(work, FETCHES.name):
        reasons = pq.read_table(path, columns=["reason"])["reason"]
        if pc.any(pc.match_substring_regex(reasons, _TRANSIENT)).as_py():
            path.unlink()
