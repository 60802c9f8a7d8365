"""What a person wants to see of a crawl: its ledger by reason, host, format and time, and the first pictures."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.galleries import Tile, contact_sheet
from stages.crawl.reasons import meaning
from stages.tables import FETCHES, part_paths

_SHOWN = 60
_HOSTS = 1000
_HOST_FIGURES = ("host", "ok", "failed", "skipped", "bytes", "requests")
_INTERVALS = 60
_MICROSECONDS = 1_000_000
_LENGTHS = [factor * 60**power for power in range(9) for factor in (1, 5, 15)]


def counts(work: Path) -> Counter[tuple[str, str, str]]:
    """Rows by (source, status, reason)."""
    result: Counter[tuple[str, str, str]] = Counter()
    for source, status, reason in _rows(work, ["source", "status", "reason"]):
        result[(source, status, reason or "")] += 1
    return result


def taken_over(work: Path, began: datetime) -> int:
    """Rows whose last attempt lies before this crawl began: those of earlier crawls."""
    first = round(began.timestamp() * _MICROSECONDS)
    return sum(1 for (fetched_at,) in _rows(work, ["fetched_at"]) if fetched_at and fetched_at < first)


def crawl_document(work: Path) -> dict[str, Any]:
    """The ledger in figures, largest counts first.

    reasons: source, status, reason, what it means, count. hosts: host, ok, failed, skipped, bytes, requests (of the
    1,000 with the most rows). formats: format, count, bytes. throughput: start of an interval, its seconds, pictures,
    failures and bytes, by the time of the last attempt.
    """
    formats: dict[str, list[int]] = {}
    hosts: dict[str, list[int]] = {}
    times: list[tuple[float, bool, int]] = []
    for host, status, mime, size, attempts, fetched_at in _rows(
        work, ["host", "status", "mime", "size", "attempts", "fetched_at"]
    ):
        ok, size = status == "ok", size or 0
        row = hosts.setdefault(host or "(files)", [0, 0, 0, 0, 0])
        row[("ok", "failed", "skipped").index(status)] += 1
        row[3] += size if ok else 0
        row[4] += attempts or 0
        if ok:
            found = formats.setdefault(mime or "unknown", [0, 0])
            found[0] += 1
            found[1] += size
        if attempts or host is None:
            times.append((fetched_at / _MICROSECONDS, ok, size))
    most = sorted(hosts.items(), key=lambda item: (-sum(item[1][:3]), item[0]))
    return {
        "reasons": [
            {"source": source, "status": status, "reason": reason, "meaning": _meaning(reason), "count": count}
            for (source, status, reason), count in _ranked(counts(work))
        ],
        "hosts": [dict(zip(_HOST_FIGURES, (host, *row), strict=True)) for host, row in most[:_HOSTS]],
        "formats": [
            {"format": name, "count": row[0], "bytes": row[1]}
            for name, row in sorted(formats.items(), key=lambda item: (-item[1][0], item[0]))
        ],
        "throughput": _throughput(times),
    }


def _throughput(times: list[tuple[float, bool, int]]) -> list[dict[str, Any]]:
    """Pictures, failures and bytes by intervals of equal length, at most `_INTERVALS` of them."""
    if not times:
        return []
    first, last = min(times)[0], max(times)[0]
    length = next(seconds for seconds in _LENGTHS if (last - first) / seconds < _INTERVALS)
    intervals: dict[int, list[int]] = {}
    for moment, ok, size in times:
        row = intervals.setdefault(int((moment - first) // length), [0, 0, 0])
        row[0 if ok else 1] += 1
        row[2] += size
    return [
        {
            "from": datetime.fromtimestamp(first + number * length, UTC).isoformat(timespec="seconds"),
            "seconds": length,
            "pictures": row[0],
            "failures": row[1],
            "bytes": row[2],
        }
        for number, row in sorted(intervals.items())
    ]


def _meaning(code: str) -> str:
    try:
        return meaning(code) if code else "a picture"
    except KeyError:
        return ""


def write_report(work: Path, report: Path) -> int:
    """Write the report's files; gives the size of all pictures in bytes."""
    document = crawl_document(work)
    for name in ("reasons", "hosts", "formats", "throughput"):
        _write(report / f"{name}.csv", document[name])
    contact_sheet(_first_pictures(work), columns=10, size=80).save(report / "pictures.png")
    return sum(row["bytes"] for row in document["formats"])


def _ranked(counter: Counter) -> list[tuple]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _rows(work: Path, columns: list[str]) -> Iterator[tuple]:
    for path in part_paths(work, FETCHES.name):
        table = pq.ParquetFile(path).read(columns)
        yield from zip(*(_values(table[name]) for name in columns), strict=True)


def _values(column: pa.ChunkedArray) -> list:
    """The column's values; times as microseconds since 1970, since to turn them into objects takes pandas and long."""
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _first_pictures(work: Path) -> list[Tile]:
    tiles: list[Tile] = []
    for path in part_paths(work, FETCHES.name):
        for batch in pq.ParquetFile(path).iter_batches(_SHOWN, columns=["status", "bytes", "label", "caption"]):
            for row in batch.to_pylist():
                if row["status"] == "ok" and len(tiles) < _SHOWN:
                    tiles.append(Tile(row["bytes"], row["caption"] or row["label"] or ""))
            if len(tiles) == _SHOWN:
                return tiles
    return tiles
