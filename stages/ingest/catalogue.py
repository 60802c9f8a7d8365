"""Which distinct files a crawl brought, what is said about each, and where its bytes stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stages.tables import FETCHES, part_paths

_COLUMNS = ("source", "url", "status", "reason", "sha256", "size", "caption", "label", "fetched_at")


@dataclass(frozen=True)
class File:
    """One distinct file: what its rows in the crawl's table say together.

    part, row: where the bytes stand. Texts are the first that any row has, in the order of (source, url).
    """

    sha256: str
    part: Path
    row: int
    size: int
    source: str
    url: str
    caption: str | None
    label: str | None
    urls: tuple[str, ...]
    fetched_at: datetime | None


@dataclass
class Catalogue:
    """The distinct files, sorted by SHA-256, and the number of rows by status or reason."""

    files: list[File]
    seen: Counter[str] = field(default_factory=Counter)


def read_catalogue(fetches: Path) -> Catalogue:
    """Read everything but the bytes of a `fetches` artifact."""
    seen: Counter[str] = Counter()
    groups: dict[str, list[dict[str, Any]]] = {}
    for part in part_paths(fetches, FETCHES.name):
        for index, row in enumerate(pq.read_table(part, columns=list(_COLUMNS)).to_pylist()):
            seen[row["reason"] or row["status"]] += 1
            if row["status"] == "ok":
                groups.setdefault(row["sha256"], []).append({**row, "part": part, "row": index})
    return Catalogue([_file(sha256, groups[sha256]) for sha256 in sorted(groups)], seen)


def _file(sha256: str, rows: list[dict[str, Any]]) -> File:
    rows.sort(key=lambda row: (row["source"], row["url"]))
    first = rows[0]
    return File(
        sha256=sha256,
        part=first["part"],
        row=first["row"],
        size=first["size"],
        source=first["source"],
        url=first["url"],
        caption=_first(row["caption"] for row in rows),
        label=_first(row["label"] for row in rows),
        urls=tuple(sorted({row["url"] for row in rows})),
        fetched_at=first["fetched_at"],
    )


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def rows_with_bytes(part: Path, rows: Iterable[int], columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The given rows of a Parquet file, in ascending order, without holding more than a few others in memory."""
    wanted = sorted(rows)
    file = pq.ParquetFile(part)
    start = position = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if position < len(wanted) and wanted[position] < end:
            offset = start
            for batch in file.iter_batches(32, row_groups=[group], columns=list(columns)):
                while position < len(wanted) and wanted[position] < offset + batch.num_rows:
                    yield batch.slice(wanted[position] - offset, 1).to_pylist()[0]
                    position += 1
                offset += batch.num_rows
        start = end
