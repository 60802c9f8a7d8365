"""What a person wants to see of an intake: what was rejected and why, formats, and sizes."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from curation.galleries import Tile, contact_sheet
from stages.ingest.catalogue import File, rows_with_bytes
from stages.tables import IMAGES, part_paths

_SHOWN = 60
_LISTED = 2000


def write_report(work: Path, report: Path, rejected: list[dict[str, Any]], files: Mapping[str, File]) -> None:
    """Write rejected.csv, rejected.png, and formats_and_sizes.png."""
    with (report / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("reason", "url", "sha256", "detail"))
        ranked = sorted(rejected, key=lambda row: (row["reason"], row["url"]))
        writer.writerows((row["reason"], row["url"], row["sha256"], row["detail"]) for row in ranked[:_LISTED])
    if rejected:
        sheet = contact_sheet([_tile(row, files) for row in _some_of_each(ranked)], columns=10, size=96)
        sheet.save(report / "rejected.png")
    _formats_and_sizes(work).savefig(report / "formats_and_sizes.png", dpi=100)


def _some_of_each(ranked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `_SHOWN` rows, in equal shares of the reasons."""
    reasons = Counter(row["reason"] for row in ranked)
    share = max(1, _SHOWN // len(reasons))
    taken: Counter[str] = Counter()
    chosen = []
    for row in ranked:
        taken[row["reason"]] += 1
        if taken[row["reason"]] <= share:
            chosen.append(row)
    return chosen[:_SHOWN]


def _tile(row: dict[str, Any], files: Mapping[str, File]) -> Tile:
    undecodable = row["reason"] != "too_small"  # a huge picture must not be decoded here either
    file = files[row["sha256"]]
    data = b"" if undecodable else next(rows_with_bytes(file.part, [file.row], ["bytes"]))["bytes"]
    return Tile(data, row["reason"], dropped=True)


def _formats_and_sizes(work: Path) -> Figure:
    formats: Counter[str] = Counter()
    sides = []
    for part in part_paths(work, IMAGES.name):
        table = pq.read_table(part, columns=["format", "width", "height"])
        formats.update(table["format"].to_pylist())
        width, height = (table[name].to_numpy().astype(np.float64) for name in ("width", "height"))
        sides.append(np.sqrt(width * height))
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [name for name, _ in sorted(formats.items(), key=lambda item: (-item[1], item[0]))][:10]
    left.bar(names, [formats[name] for name in names], color="#4472a8")
    left.set(title="Formats", ylabel="images")
    right.hist(np.concatenate(sides), bins=40, color="#4472a8")
    right.set(title="Size", xlabel="√(width · height) in pixels", ylabel="images")
    return figure
