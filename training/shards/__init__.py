"""Shards: training samples in Arrow IPC files, any row in constant time, mapped from disk or read from any URL."""

from training.shards.cache import ShardCache
from training.shards.digest import content_digest
from training.shards.index import INDEX, Index, ShardEntry
from training.shards.reading import ShardReader
from training.shards.schema import (
    PROVENANCE,
    ROWS_PER_BATCH,
    SAMPLE_BY,
    SAMPLES,
    SCHEMA_VERSION,
    ShardError,
)
from training.shards.verifying import Damage
from training.shards.writing import ShardsWriter, shard_entry, write_index, write_shard

__all__ = [
    "INDEX",
    "PROVENANCE",
    "ROWS_PER_BATCH",
    "SAMPLES",
    "SAMPLE_BY",
    "SCHEMA_VERSION",
    "Damage",
    "Index",
    "ShardCache",
    "ShardEntry",
    "ShardError",
    "ShardReader",
    "ShardsWriter",
    "content_digest",
    "shard_entry",
    "write_index",
    "write_shard",
]
