"""The worker of ingest: reads a range of fetched files, decodes each, and notes what it is or why it is none."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation.decoding import DecodeError, decode
from curation.hashing import phash
from stages.base import committed
from stages.compute import Task
from stages.ingest.catalogue import rows_with_bytes

CHECKED = pa.schema(
    [
        ("image_id", pa.string()),
        ("bytes", pa.large_binary()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("orientation", pa.int8()),
        ("phash", pa.binary(8)),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row a distinct file; `reason` is null for a usable image, and the columns before it are null otherwise."""

FEATURES = ("format", "width", "height", "orientation", "phash")

_EXIF_ORIENTATION = 0x0112


def bucket(image_id: str, buckets: int) -> int:
    """Which of `buckets` equal ranges of the hash space an image belongs to; ranges follow the order of ids."""
    return int(image_id[:8], 16) * buckets >> 32


def checked_path(folder: Path, part: Path, rows: Sequence[int]) -> Path:
    """File of a task's result, named by what the task reads."""
    name = hashlib.sha256(f"{part.name}:{list(rows)}".encode()).hexdigest()[:20]
    return folder / f"{name}.parquet"


class Checker:
    """Decodes the rows of a task and commits the result, one row group a bucket of the final table."""

    def __init__(self, max_pixels: int, min_side: int, buckets: int) -> None:
        self._max_pixels = max_pixels
        self._min_side = min_side
        self._buckets = buckets

    def __call__(self, task: Task) -> Task:
        """task: part (Parquet file of the crawl), rows, out (path to commit)."""
        rows = sorted(self._check_all(Path(task["part"]), task["rows"]), key=lambda row: row["image_id"])
        groups: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(bucket(row["image_id"], self._buckets), []).append(row)
        metadata = {"buckets": json.dumps(list(groups)), "of": str(self._buckets)}
        schema = CHECKED.with_metadata(metadata)
        with committed(Path(task["out"])) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for group in groups.values():
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
        return {"out": task["out"], "rows": len(rows)}

    def _check_all(self, part: Path, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        for row in rows_with_bytes(part, rows, ["sha256", "bytes"]):
            yield {"image_id": row["sha256"], **self._check(row["bytes"])}

    def _check(self, data: bytes) -> dict[str, Any]:
        try:
            return self._features(data)
        except DecodeError as error:
            return {"bytes": data, "reason": error.reason_code, "detail": error.detail[:300]}

    def _features(self, data: bytes) -> dict[str, Any]:
        file_format, orientation = _header(data, self._max_pixels)
        picture = decode(data, orientation=orientation, max_pixels=self._max_pixels)
        width, height = picture.size
        if min(width, height) < self._min_side:
            raise DecodeError("too_small", f"{width} x {height} has a side shorter than {self._min_side}")
        return {
            "bytes": data,
            "format": file_format,
            "width": width,
            "height": height,
            "orientation": orientation,
            "phash": phash(picture),
        }


def _header(data: bytes, max_pixels: int) -> tuple[str, int]:
    """Format and the EXIF orientation that is left to apply. Raises DecodeError from the header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
    except Exception:  # noqa: BLE001 - decode gives every failure its reason code
        decode(data, max_pixels=max_pixels)
        raise DecodeError("corrupt", "the header cannot be read") from None
    width, height = image.size
    if width * height > max_pixels:
        raise DecodeError("too_many_pixels", f"{width} x {height} is more than {max_pixels} pixels")
    return (image.format or "unknown").lower(), _orientation(image)


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # the decoder itself turns these
        return 1
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
        return int(value) if 1 <= int(value) <= 8 else 1
    except Exception:  # noqa: BLE001 - broken EXIF says nothing about the picture
        return 1
