"""Shards: writing against WebDataset, the cost of a random row at a million rows, and reading from a slow store.

python -m tests.benchmarks.shards
"""

from __future__ import annotations

import io
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset

from tests.benchmarks.peers import keep_result
from tests.training.samples import photographs
from tests.training.shards.web import serving
from training.shards import SAMPLES, ShardCache, ShardReader, ShardsWriter

REPEATS = 5


def cpu_seconds() -> float:
    """Of this process, its threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def jpegs(count: int) -> list[bytes]:
    """Cut-outs of 256 x 256 pixels; about 20 kB each."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        photograph = photographs()[index % 2]
        x, y = int(rng.integers(photograph.width - 256)), int(rng.integers(photograph.height - 256))
        buffer = io.BytesIO()
        photograph.crop((x, y, x + 256, y + 256)).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


def row_of(number: int, data: bytes) -> dict[str, Any]:
    return {
        "row": number,
        "image_id": f"{number:064x}",
        "bytes": data,
        "frames": [],
        "orientation": 1,
        "source": "web",
        "source_weight": 1.0,
        "captions": ["a photograph"],
        "label": "china",
        "cluster": [number % 7, number % 100],
        "group_id": f"{number:064x}",
        "weight": 1.0,
    }


def write_ours(folder: Path, rows: list[dict[str, Any]], per_shard: int = 4096, per_batch: int = 256) -> None:
    with ShardsWriter(folder, per_shard, per_batch) as writer:
        for first in range(0, len(rows), 256):
            writer.write(pa.Table.from_pylist(rows[first : first + 256], schema=SAMPLES))
        writer.finish()


def write_tars(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=4096, maxsize=1e12, verbose=0) as sink:
        for row in rows:
            told = {name: value for name, value in row.items() if name not in ("bytes", "frames")}
            sink.write({"__key__": f"{row['row']:012d}", "jpg": row["bytes"], "json": json.dumps(told).encode()})


def writing(count: int = 8192) -> dict[str, Any]:
    """Samples a CPU-second from rows in memory to files, ours with checksums and index; interleaved, medians."""
    images = jpegs(512)
    rows = [row_of(number, images[number % len(images)]) for number in range(count)]
    figures: dict[str, list[float]] = {"shards": [], "webdataset": []}
    for _ in range(REPEATS):
        for name, write in (("shards", write_ours), ("webdataset", write_tars)):
            with tempfile.TemporaryDirectory() as folder:
                start = cpu_seconds()
                write(Path(folder) / "out", rows)
                figures[name].append(count / (cpu_seconds() - start))
    return {name: round(statistics.median(values)) for name, values in figures.items()}


def write_small(folder: Path, count: int) -> None:
    """Rows of 100 bytes."""
    data = [bytes([n]) * 100 for n in range(256)]
    with ShardsWriter(folder) as writer:
        for first in range(0, count, 4096):
            size = min(4096, count - first)
            column: dict[str, Any] = {name: [value] * size for name, value in row_of(0, b"").items()}
            column["bytes"] = [data[n % 256] for n in range(size)]
            writer.write(pa.table([pa.array(column[f.name], f.type) for f in SAMPLES], schema=SAMPLES))
        writer.finish()


def random_rows(counts: tuple[int, ...] = (10_000, 100_000, 1_000_000), reads: int = 20_000) -> dict[str, Any]:
    """CPU-microseconds a row: the first time that record batches are touched, then in random order over all rows."""
    figures = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_small(Path(folder) / "shards", count)
            start = cpu_seconds()
            reader = ShardReader(Path(folder) / "shards")
            opened = cpu_seconds() - start
            rng = random.Random(0)
            taken = []
            for _ in range(3):
                order = [rng.randrange(count) for _ in range(reads)]
                start = cpu_seconds()
                for row in order:
                    reader.encoded(row)
                taken.append((cpu_seconds() - start) / reads * 1e6)
            figures[f"{count:,} rows"] = {
                "open_ms": round(opened * 1e3, 1),
                "first_us": round(taken[0], 1),
                "then_us": round(min(taken[1:]), 1),
                "index_bytes": (Path(folder) / "shards" / "index.json").stat().st_size,
            }
    return figures


def remote(count: int = 2048, per_shard: int = 512, per_batch: int = 64, latency: float = 0.02) -> dict[str, Any]:
    """Seconds to the first 64 rows and to the last from a store that takes 20 ms to answer, and megabytes that were
    sent: shards as a whole when first touched, and by record batch with the next window fetched ahead."""
    images = jpegs(512)
    rng = random.Random(0)
    window = 4 * per_batch
    blocks = [list(range(first, first + per_batch)) for first in range(0, count, per_batch)]
    rng.shuffle(blocks)
    windowed = []
    for first in range(0, len(blocks), 4):
        rows = [row for block in blocks[first : first + 4] for row in block]
        rng.shuffle(rows)
        windowed += rows
    uniform = rng.sample(range(count), count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shards"
        write_ours(path, [row_of(n, images[n % len(images)]) for n in range(count)], per_shard, per_batch)
        total = sum(entry.bytes for entry in ShardReader(path).entries)
        figures: dict[str, Any] = {"set_MB": round(total / 1e6)}
        with serving(path) as web:
            sent = [0]

            def answer(_name: str, data: bytes) -> bytes:
                time.sleep(latency)
                sent[0] += len(data)
                return data

            web.spoil = answer
            for order_name, order in (("windowed", windowed), ("uniform", uniform)):
                for share in (2.0, 0.5):
                    for unit, read in (("whole shards", _read_whole), ("record batches", _read_batches)):
                        sent[0] = 0
                        cache = ShardCache(Path(folder) / f"{order_name}{share}{unit}", int(total * share))
                        reader = ShardReader(web.url, cache)
                        start = time.monotonic()
                        first = read(reader, order[:64], window)
                        rest = order[64 : count if share > 1 else 192]
                        read(reader, rest, window)
                        taken = time.monotonic() - start
                        figures[f"{order_name}, cache {share:g} of the set, {unit}"] = {
                            "first_64_rows_s": round(first, 2),
                            "rows": 64 + len(rest),
                            "all_s": round(taken, 2),
                            "sent_MB": round(sent[0] / 1e6),
                        }
    return figures


def _read_batches(reader: ShardReader, order: list[int], window: int) -> float:
    start = time.monotonic()
    for position, row in enumerate(order):
        if position % window == 0:
            reader.prefetch(order[position : position + 2 * window])
        reader.encoded(row)
    return time.monotonic() - start


def _read_whole(reader: ShardReader, order: list[int], window: int) -> float:
    del window
    start = time.monotonic()
    per_shard = reader.index.rows_per_shard
    for row in order:
        shard = row // per_shard
        entry = reader.entries[shard]
        if not reader._files.cache.holds(entry, 1 + row % per_shard // reader.index.rows_per_batch):
            reader._files._fetch(entry, list(range(1, entry.batches + 1)))
        reader.encoded(row)
    return time.monotonic() - start


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {"writing": writing, "random_rows": random_rows, "remote": remote}

if __name__ == "__main__":
    measured = {name: MEASURES[name]() for name in sys.argv[1:] or MEASURES}
    print(json.dumps(measured, indent=1))
    if not sys.argv[1:]:
        print(keep_result("shards", "python -m tests.benchmarks.shards", measured))
