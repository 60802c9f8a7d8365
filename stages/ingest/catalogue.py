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
from stages.takedowns import TAKEDOWN, Takedowns

_COLUMNS = (
    "source", "source_weight", "url", "final_url", "status", "reason", "content_type", "mime", "sha256", "size",
    "caption", "label", "licence", "metadata", "fetched_at",
)  # fmt: skip
_SUFFIXES = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff"}
_FORMATS = frozenset({"jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "jxl", "heic", "svg"})
_ANONYMOUS = frozenset({"application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})


@dataclass(frozen=True)
class File:
    """One distinct file: what its rows in the crawl's table say together.

    part, row: where the bytes stand. Texts are the first that any row has, in the order of (source, url).
    remarks: "wrong_type" where a name or server says that it is something else than it is.
    """

    sha256: str
    part: Path
    row: int
    size: int
    source: str
    source_weight: float | None
    url: str
    caption: str | None
    label: str | None
    licence: str | None
    metadata: str | None
    remarks: tuple[str, ...]
    urls: tuple[str, ...]
    fetched_at: datetime | None


@dataclass
class Catalogue:
    """The distinct files, sorted by SHA-256, and the number of rows by status or reason.

    taken_down: what a takedown list names, by SHA-256, with the entry. The same bytes from another URL count too.
    """

    files: list[File]
    seen: Counter[str] = field(default_factory=Counter)
    taken_down: dict[str, str] = field(default_factory=dict)


def read_catalogue(fetches: Path, takedowns: Takedowns) -> Catalogue:
    """Read everything but the bytes of a `fetches` artifact."""
    seen: Counter[str] = Counter()
    taken_down: dict[str, str] = {}
    groups: dict[str, list[dict[str, Any]]] = {}
    for part in part_paths(fetches, FETCHES.name):
        for index, row in enumerate(pq.read_table(part, columns=list(_COLUMNS)).to_pylist()):
            seen[row["status"] if row["status"] == "ok" else row["reason"]] += 1
            if entry := takedowns.names(row["url"], row["final_url"], row["sha256"]):
                taken_down[row["sha256"]] = f"named by ingest.takedown: {entry}"
            elif row["reason"] == TAKEDOWN:
                taken_down.setdefault(row["sha256"], f"named by crawl.takedown: {row['url']}")
            if row["status"] == "ok":
                groups.setdefault(row["sha256"], []).append({**row, "part": part, "row": index})
    files = [_file(sha256, groups[sha256]) for sha256 in sorted(groups)]
    return Catalogue(files, seen, {sha256: taken_down[sha256] for sha256 in groups if sha256 in taken_down})


def _file(sha256: str, rows: list[dict[str, Any]]) -> File:
    rows.sort(key=lambda row: (row["source"], row["url"]))
    first = rows[0]
    return File(
        sha256=sha256,
        part=first["part"],
        row=first["row"],
        size=first["size"],
        source=first["source"],
        source_weight=first["source_weight"],
        url=first["url"],
        caption=_first(row["caption"] for row in rows),
        label=_first(row["label"] for row in rows),
        licence=_first(row["licence"] for row in rows),
        metadata=_first(row["metadata"] for row in rows),
        remarks=("wrong_type",) if any(map(_says_otherwise, rows)) else (),
        urls=tuple(sorted({row["url"] for row in rows})),
        fetched_at=first["fetched_at"],
    )


def _says_otherwise(row: dict[str, Any]) -> bool:
    """Whether the server's type or the suffix of the URL names another kind of file than the first bytes do."""
    is_ = (row["mime"] or "").removeprefix("image/")
    declared = row["content_type"]
    if declared and declared not in _ANONYMOUS and declared.removeprefix("image/").replace("jpg", "jpeg") != is_:
        return True
    suffix = row["url"].rpartition("/")[2].partition("?")[0].rpartition(".")[2].lower()
    suffix = _SUFFIXES.get(suffix, suffix)
    return bool(is_) and suffix in _FORMATS and suffix != is_


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
