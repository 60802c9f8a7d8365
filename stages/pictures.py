"""Single pictures out of a big images artifact, for galleries: reads only the row groups that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.artifact import Artifact
from stages.tables import part_paths

_COLUMNS = ["image_id", "bytes", "orientation", "caption", "label", "width", "height"]


@dataclass(frozen=True)
class Picture:
    """Encoded bytes with what a caption may say."""

    image_id: str
    bytes: bytes
    orientation: int
    caption: str
    label: str | None
    width: int
    height: int


def read_pictures(images: Artifact, ids: Iterable[str]) -> dict[str, Picture]:
    """The pictures of an images artifact with these ids, by id; ids that it doesn't hold are absent."""
    pictures: dict[str, Picture] = {}
    for rows in _matching(images, ids, _COLUMNS):
        for row in rows.to_pylist():
            row["orientation"] = row["orientation"] or 1
            row["caption"] = row["caption"] or ""
            pictures[row["image_id"]] = Picture(**row)
    return pictures


def byte_sizes(images: Artifact, ids: Iterable[str]) -> dict[str, int]:
    """Encoded size in bytes of the images with these ids, one row group in memory at a time."""
    sizes: dict[str, int] = {}
    for rows in _matching(images, ids, ["image_id", "bytes"]):
        sizes.update(zip(rows["image_id"].to_pylist(), pc.binary_length(rows["bytes"]).to_pylist(), strict=True))
    return sizes


def _matching(images: Artifact, ids: Iterable[str], columns: list[str]) -> Iterator[pa.Table]:
    """The rows with these ids, a row group at a time; the bytes of a group without any are not read."""
    wanted = pa.array(sorted(set(ids)), pa.string())
    for path in part_paths(images.path, "images"):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            found = pc.is_in(file.read_row_group(group, columns=["image_id"])["image_id"], value_set=wanted)
            if pc.any(found).as_py():
                yield file.read_row_group(group, columns=columns).filter(found)
