"""Our loader: `ours decode|raw FOLDER`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.loaders.workload import BATCH, SIDE, WORKERS, measure
from training.loader import Loader
from training.order import batch_rows, steps_per_epoch
from training.shards import ShardReader


def decoded(folder: Path) -> Callable[[int], Iterable[Any]]:
    reader = ShardReader(folder / "shards")
    loader = Loader(reader, canvas_size=SIDE, global_batch=BATCH, seed=0, threads=WORKERS, cache_bytes=0)
    steps = steps_per_epoch(len(reader), BATCH)
    return lambda number: (loader.batch(step).canvases for step in range(number * steps, (number + 1) * steps))


def raw(folder: Path) -> Callable[[int], Iterable[Any]]:
    reader = ShardReader(folder / "shards")
    steps = steps_per_epoch(len(reader), BATCH)

    def batch(step: int) -> list[bytes]:
        return [reader.encoded(row)[0] for row in batch_rows(step, 0, 1, BATCH, len(reader), 0).tolist()]

    return lambda number: (batch(step) for step in range(number * steps, (number + 1) * steps))


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure(functools.partial({"decode": decoded, "raw": raw}[sys.argv[1]], Path(sys.argv[2])))
