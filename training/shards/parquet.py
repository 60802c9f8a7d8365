"""Shards to and from Parquet, image structs of Hugging Face data sets included."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.shards.importing import OnRows, SourceFile
from training.shards.reading import ShardReader
from training.shards.schema import ENCODED, ROWS_PER_BATCH, SAMPLES, ShardError

SUFFIXES = (".parquet",)
_IMAGE_NAMES = ("bytes", "image", "img", "jpg", "png", "webp", "image_bytes")
_CAPTION_NAMES = ("caption", "text", "txt")


def export_parquet(reader: ShardReader, out: Path, on_rows: OnRows = lambda _rows: None) -> list[Path]:
    """Write one Parquet file a shard, one row group a record batch, encoded images uncompressed. Returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    batches = reader.batches()
    for number, entry in enumerate(reader.entries):
        path = out / f"part-{number:06d}.parquet"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with pq.ParquetWriter(temporary, SAMPLES, compression=_COMPRESSION, use_dictionary=_DICTIONARY) as writer:
                for _ in range(entry.batches):
                    batch = next(batches)
                    writer.write_batch(batch)
                    on_rows(batch.num_rows)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        paths.append(path)
    return paths


def parquet_samples(files: Sequence[SourceFile]) -> Iterator[dict[str, Any]]:
    """The samples of Parquet files, streamed, in lots for `import_samples`.

    Columns with names of `SAMPLES` are taken as they are. The image may also be a column `image`, `img`, ... of
    binary or of a struct {bytes, path}; a text column `caption`, `text` or `txt` is a caption; a class number gets
    its name where the file's Hugging Face features tell it.
    Raises ShardError where a file is not Parquet or has no column of encoded images.
    """
    for file in files:
        try:
            with file.open() as stream, pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20) as parquet:
                schema = parquet.schema_arrow
                image, caption = _image_column(schema, file.name), _first(_CAPTION_NAMES, schema)
                names = [name for name in SAMPLES.names if name in schema.names and name not in ("row", "bytes")]
                wanted = [*names, image, *([caption] if caption else [])]
                for batch in parquet.iter_batches(ROWS_PER_BATCH, columns=wanted):
                    yield _lot(batch, names, image, caption, _class_names(schema))
        except (pa.ArrowInvalid, OSError) as error:
            raise ShardError(f"{file.name} is not a whole Parquet file: {error}") from error


def _leaf(name: str) -> str:
    return f"{name}.list.element" if pa.types.is_list(SAMPLES.field(name).type) else name


_COMPRESSION = {_leaf(name): "none" if name in ENCODED else "zstd" for name in SAMPLES.names}
_DICTIONARY = [_leaf(name) for name in SAMPLES.names if name not in ENCODED]


def _image_column(schema: pa.Schema, where: str) -> str:
    for name in (*_IMAGE_NAMES, *schema.names):
        index = schema.get_field_index(name)
        if index >= 0 and _holds_images(schema.field(index).type):
            return name
    raise ShardError(
        f"{where} has no column of encoded images: it needs one, such as image, of binary or of a struct with bytes; "
        f"its columns are {', '.join(schema.names)}"
    )


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _first(names: Sequence[str], schema: pa.Schema) -> str | None:
    return next((name for name in names if name in schema.names and "captions" not in schema.names), None)


def _lot(
    batch: pa.RecordBatch, names: Sequence[str], image: str, caption: str | None, classes: list[str] | None
) -> dict[str, Any]:
    columns: dict[str, Any] = {name: batch.column(name) for name in names}
    images = batch.column(image)
    columns["bytes"] = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
    if caption:
        columns["captions"] = [
            text if isinstance(text, list) else [] if text is None else [str(text)]
            for text in batch.column(caption).to_pylist()
        ]
    if "label" in columns:
        labels = columns["label"].to_pylist()
        columns["label"] = [_label(value, classes) for value in labels]
    return columns


def _label(value: Any, classes: list[str] | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return classes[value] if classes and isinstance(value, int) and 0 <= value < len(classes) else str(value)


def _class_names(schema: pa.Schema) -> list[str] | None:
    """Names of the classes of `label` in the features that Hugging Face `datasets` writes into the metadata."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        return list(json.loads(text)["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return None
