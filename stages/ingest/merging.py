"""From checked files to the final tables: sorted by image id, in parts that hold a range of ids each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.artifact import Artifact
from stages.ingest.catalogue import File
from stages.ingest.checking import FEATURES, bucket
from stages.tables import IMAGES, REJECTED, part_paths, table_from_rows, write_part
from stages.takedowns import TAKEDOWN

PART_BYTES = 64_000_000
PART_ROWS = 1024


def bucket_count(files: Sequence[File]) -> int:
    """Number of final parts: so many that one fits in memory easily and there is work for several readers."""
    return max(1, -(-sum(file.size for file in files) // PART_BYTES), -(-len(files) // PART_ROWS))


class Earlier:
    """What earlier ingests of the same family found out about files, by SHA-256."""

    def __init__(self, artifacts: Sequence[Artifact]) -> None:
        self.images: dict[str, Path] = {}
        self.rejected: dict[str, dict[str, Any]] = {}
        for artifact in artifacts:
            for part in part_paths(artifact.path, IMAGES.name):
                for image_id in pq.read_table(part, columns=["image_id"])["image_id"].to_pylist():
                    self.images.setdefault(image_id, part)
            for part in part_paths(artifact.path, REJECTED.name):
                for row in pq.read_table(part).to_pylist():
                    if row["reason"] != TAKEDOWN:
                        self.rejected.setdefault(row["sha256"], row)

    def knows(self, sha256: str) -> bool:
        return sha256 in self.images or sha256 in self.rejected

    def rows(self, sha256s: Sequence[str]) -> Iterator[pa.Table]:
        """Bytes and features of images that earlier ingests hold."""
        by_part: dict[Path, list[str]] = {}
        for sha256 in sha256s:
            if sha256 in self.images:
                by_part.setdefault(self.images[sha256], []).append(sha256)
        for part, wanted in by_part.items():
            table = pq.read_table(part, columns=["image_id", "bytes", *FEATURES])
            yield table.filter(pc.is_in(table["image_id"], value_set=pa.array(wanted)))


def write_images(work: Path, files: Sequence[File], checked: Sequence[Path], earlier: Earlier, buckets: int) -> None:
    """Write the `images` table, one part a bucket; parts that stand already are left."""
    ranges: list[list[File]] = [[] for _ in range(buckets)]
    for file in files:
        ranges[bucket(file.sha256, buckets)].append(file)
    groups = _row_groups(checked, buckets)
    for index, members in enumerate(ranges):
        if not (work / IMAGES.name / f"part-{index:05d}.parquet").exists():
            tables = [*_read_groups(groups[index]), *earlier.rows([file.sha256 for file in members])]
            write_part(work, IMAGES.name, index, _join(members, tables))


def _row_groups(checked: Sequence[Path], buckets: int) -> list[list[tuple[Path, int]]]:
    """Where the rows of each bucket stand: (file, row group)."""
    places: list[list[tuple[Path, int]]] = [[] for _ in range(buckets)]
    for path in checked:
        held = json.loads(pq.read_schema(path).metadata[b"buckets"])
        for group, index in enumerate(held):
            places[index].append((path, group))
    return places


def _read_groups(places: Sequence[tuple[Path, int]]) -> Iterator[pa.Table]:
    for path, group in places:
        table = pq.ParquetFile(path).read_row_group(group, columns=["image_id", "bytes", *FEATURES, "reason"])
        yield table.filter(pc.is_null(table["reason"])).drop_columns(["reason"])


def _join(files: Sequence[File], tables: Sequence[pa.Table]) -> pa.Table:
    """Features and bytes of `tables` with what the crawl says of each file, in the order of ids."""
    if not tables:
        return table_from_rows(IMAGES, [])
    images = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    images = images.take(pc.sort_indices(images["image_id"]))
    by_id = {file.sha256: file for file in files}
    rows = [by_id[image_id] for image_id in images["image_id"].to_pylist()]
    remarks = [
        sorted({*(own or ())} - {"wrong_type"} | {*row.remarks})  # what the crawl says is never taken over
        for own, row in zip(images["remarks"].to_pylist(), rows, strict=True)
    ]
    images = images.set_column(
        images.column_names.index("remarks"), "remarks", pa.array(remarks, IMAGES.schema.field("remarks").type)
    )
    for name in IMAGES.schema.names:
        if name not in images.column_names:
            values = [list(row.urls) if name == "urls" else getattr(row, name) for row in rows]
            images = images.append_column(name, pa.array(values, IMAGES.schema.field(name).type))
    return images.select(IMAGES.schema.names).cast(IMAGES.schema)


def write_rejected(
    work: Path, files: Sequence[File], taken_down: Mapping[str, str], checked: Sequence[Path], earlier: Earlier
) -> list[dict[str, Any]]:
    """Write the side table of rejected files, and give its rows. taken_down: SHA-256 -> who names it."""
    by_id = {file.sha256: file for file in files}
    found = {file.sha256: earlier.rejected[file.sha256] for file in files if file.sha256 in earlier.rejected}
    for path in checked:
        table = pq.read_table(path, columns=["image_id", "reason", "detail"])
        for row in table.filter(pc.is_valid(table["reason"])).to_pylist():
            found[row["image_id"]] = row
    found |= {sha256: {"reason": TAKEDOWN, "detail": entry} for sha256, entry in taken_down.items()}
    rows = [
        {"sha256": sha256, "url": by_id[sha256].url, "reason": row["reason"], "detail": row["detail"]}
        for sha256, row in sorted(found.items())
    ]
    write_part(work, REJECTED.name, 0, table_from_rows(REJECTED, rows))
    return rows
