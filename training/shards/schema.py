"""The columns of a sample, and how shards of an older version become these."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 3
ROWS_PER_BATCH = 256

SAMPLES = pa.schema(
    [
        ("row", pa.int64()),  # position among all samples
        ("image_id", pa.string()),
        ("bytes", pa.large_binary()),  # encoded image
        ("frames", pa.list_(pa.large_binary())),  # further encoded images: other views, or the rest of a sequence
        ("orientation", pa.int8()),  # EXIF orientation that a decoder has to apply to every image of the row
        ("source", pa.string()),  # name of the source set
        ("source_weight", pa.float32()),  # weight of the source set, for a mixture of sets
        ("captions", pa.list_(pa.string())),
        ("label", pa.string()),
        ("cluster", pa.list_(pa.int32())),  # path from the top level down
        ("group_id", pa.string()),  # duplicate group
        ("weight", pa.float32()),
        ("part", pa.string()),  # part of a mixture; null where there is one part
    ]
)

ENCODED = ("bytes", "frames")
COLUMNS = pa.schema([field for field in SAMPLES if field.name not in ENCODED])
"""What a row says besides its encoded images: small, and kept in a file of its own as well."""

PROVENANCE = ("source", "source_weight", "cluster", "group_id", "part")
"""Columns that say where a sample came from. They enter the content digest only where sampling may read them, so a
curation that names its clusters anew but keeps the same images gives shards of the same digest, and trains nothing
again."""

SAMPLE_BY = {
    "source": ("source", "source_weight"),
    "cluster": ("cluster",),
    "part": ("part",),
    "group": ("group_id",),
}
"""What shards can be made to be sampled or contrasted by, besides weight, and the columns of `PROVENANCE` for it."""

SAMPLES_1 = pa.schema(
    [
        ("row", pa.int64()),
        ("image_id", pa.string()),
        ("bytes", pa.large_binary()),
        ("orientation", pa.int8()),
        ("caption", pa.string()),
        ("label", pa.string()),
        ("cluster", pa.list_(pa.int32())),
        ("group_id", pa.string()),
        ("weight", pa.float32()),
    ]
)
"""Version 1: one caption, no source set, no frames, and no checksums of record batches in the index."""

SAMPLES_2 = pa.schema([field for field in SAMPLES if field.name != "part"])
"""Version 2: no parts of a mixture."""

SCHEMAS = {1: SAMPLES_1, 2: SAMPLES_2, SCHEMA_VERSION: SAMPLES}


class ShardError(Exception):
    """Shards are missing, damaged, not reachable, or of a version that this code cannot read."""


def upgraded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A record batch of any version with the columns of `SAMPLES`; the image bytes are not copied."""
    if batch.schema.equals(SAMPLES):
        return batch
    columns = {name: pa.nulls(batch.num_rows, SAMPLES.field(name).type) for name in SAMPLES.names}
    columns["frames"] = _empty_lists(batch.num_rows, SAMPLES.field("frames").type)
    columns |= {name: batch.column(name) for name in batch.schema.names}
    if "caption" in columns:
        texts = [None if text is None else [text] for text in columns["caption"].to_pylist()]
        columns["captions"] = pa.array(texts, SAMPLES.field("captions").type)
    return pa.record_batch([columns[name] for name in SAMPLES.names], schema=SAMPLES)


def _empty_lists(rows: int, type_: pa.ListType) -> pa.Array:
    """Without Python values, from which Arrow would import pandas in the loader's first batch."""
    offsets = pa.py_buffer(bytes(4 * (rows + 1)))
    return pa.Array.from_buffers(type_, rows, [None, offsets], children=[pa.nulls(0, type_.value_type)])


def conformed(samples: pa.Table) -> pa.Table:
    """A table with exactly the columns of `SAMPLES`. Raises ShardError naming the columns that are missing or of
    a type that does not fit."""
    missing = [name for name in SAMPLES.names if name not in samples.column_names]
    if missing:
        raise ShardError(f"samples lack the columns {', '.join(missing)}: {', '.join(SAMPLES.names)} are needed")
    try:
        return samples.select(SAMPLES.names).cast(SAMPLES)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ShardError(f"samples do not have the column types of a shard: {error}") from error
