"""Samples of other formats as shards: what a format does not say is filled in from the image itself."""

from __future__ import annotations

import functools
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from training.shards.index import Index
from training.shards.schema import ROWS_PER_BATCH, SAMPLES, ShardError
from training.shards.writing import ShardsWriter

_ORIENTATION_TAG = 0x0112

OnRows = Callable[[int], None]
"""Called with the number of rows that were just written."""


@dataclass(frozen=True)
class SourceFile:
    """A file to import, opened when its turn comes; `name` is its path or URL."""

    name: str
    open: Callable[[], IO[bytes]]


def source_files(location: str, suffixes: Sequence[str]) -> list[SourceFile]:
    """The files at a path or fsspec URL, in the order of their names: one file, a folder's files with one of the
    suffixes, or what a pattern with `*` matches. Raises ShardError where there is none."""
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(location)
        if "*" in path:
            names = fs.glob(path)
        elif fs.isdir(path):
            names = [name for name in fs.ls(path, detail=False) if name.endswith(tuple(suffixes))]
        else:
            names = [path] if fs.exists(path) else []
    except (OSError, ValueError, ImportError) as error:
        raise ShardError(f"{location} cannot be opened: {error}") from error
    if not names:
        raise ShardError(f"{location} holds nothing to import: give a file, a folder or a pattern of {suffixes[0]}")
    return [SourceFile(str(name), functools.partial(fs.open, name, "rb")) for name in sorted(names)]


def import_samples(
    tables: Iterable[Mapping[str, Any]],
    out: Path,
    *,
    rows_per_shard: int = 4096,
    rows_per_batch: int = ROWS_PER_BATCH,
    on_rows: OnRows = lambda _rows: None,
) -> tuple[Index, Counter[str]]:
    """Write shards of samples that come in lots: mappings from names of `SAMPLES` to lists or arrays.

    `bytes` must be there; what else is missing is filled in: image_id by the SHA-256 of the bytes, orientation from
    EXIF, weight by 1, no captions, no frames. Returns the index, and how many rows were left out, by reason.
    """
    skipped: Counter[str] = Counter()
    with ShardsWriter(out, rows_per_shard, rows_per_batch) as writer:
        for columns in tables:
            table = _completed(columns)
            whole = table.filter(pc.greater(pc.binary_length(table["bytes"]), 0))
            if whole.num_rows < table.num_rows:
                skipped["no image"] += table.num_rows - whole.num_rows
            writer.write(whole)
            on_rows(whole.num_rows)
        return writer.finish(), skipped


def default(name: str, image: bytes | None) -> Any:
    """What a column of `SAMPLES` holds for an image of which nothing else is known."""
    if name == "image_id":
        return hashlib.sha256(image or b"").hexdigest()
    if name == "orientation":
        return exif_orientation(image or b"")
    return {"weight": 1.0, "captions": [], "frames": []}.get(name)


def _completed(columns: Mapping[str, Any]) -> pa.Table:
    images = _array("bytes", columns["bytes"])
    known = {**columns, "bytes": images, "row": range(len(images))}
    missing = [name for name in SAMPLES.names if name not in known]
    data = images.to_pylist() if missing else []
    known.update({name: [default(name, image) for image in data] for name in missing})
    return pa.table([_array(name, known[name]) for name in SAMPLES.names], schema=SAMPLES)


def _array(name: str, values: Any) -> Any:
    kind = SAMPLES.field(name).type
    try:
        return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ShardError(f"column {name} does not fit into shards, which hold {kind} there: {error}") from error


def exif_orientation(data: bytes) -> int:
    """EXIF orientation 1..8 of an encoded image; 1 where it says none."""
    try:
        found = Image.open(io.BytesIO(data)).getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1
    return int(found) if found in range(1, 9) else 1
