"""What a person wants to see of a crawl: counts by reason, format and host, and the first pictures."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from curation.galleries import Tile, contact_sheet
from stages.tables import FETCHES, part_paths

_SHOWN = 60


def counts(work: Path) -> Counter[tuple[str, str, str]]:
    """Rows by (source, status, reason)."""
    result: Counter[tuple[str, str, str]] = Counter()
    for source, status, reason in _rows(work, ["source", "status", "reason"]):
        result[(source, status, reason or "")] += 1
    return result


def write_report(work: Path, report: Path, by_reason: Counter[tuple[str, str, str]]) -> int:
    """Write the report's files; gives the size of all pictures in bytes."""
    by_format: Counter[str] = Counter()
    by_host: Counter[tuple[str, str]] = Counter()
    total = 0
    for url, status, mime, size in _rows(work, ["url", "status", "mime", "size"]):
        by_host[(urlsplit(url).hostname or "(files)", status)] += 1
        if status == "ok":
            by_format[mime] += 1
            total += size
    _write(
        report / "reasons.csv", ("source", "status", "reason", "count"), ((*key, n) for key, n in _ranked(by_reason))
    )
    _write(report / "formats.csv", ("format", "count"), _ranked(by_format))
    _write(report / "hosts.csv", ("host", "status", "count"), ((*key, n) for key, n in _ranked(by_host)[:1000]))
    contact_sheet(_first_pictures(work), columns=10, size=80).save(report / "pictures.png", optimize=True)
    return total


def _ranked(counter: Counter) -> list[tuple]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _rows(work: Path, columns: list[str]) -> Iterator[tuple]:
    for path in part_paths(work, FETCHES.name):
        table = pq.read_table(path, columns=columns)
        yield from zip(*(table[name].to_pylist() for name in columns), strict=True)


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
