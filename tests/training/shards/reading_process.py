"""What a process that shares a cache with others does; imports little, since it is started anew."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from training.shards import ShardCache, ShardReader


def read_in_any_order(url: str, cache: Path, max_bytes: int, seed: int) -> None:
    """Read every row and check it against its id."""
    reader = ShardReader(url, ShardCache(cache, max_bytes))
    order = list(range(len(reader)))
    random.Random(seed).shuffle(order)
    for row in order:
        data, _ = reader.encoded(row)
        assert hashlib.sha256(data).hexdigest() == reader.sample(row)["image_id"]
