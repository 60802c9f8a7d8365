"""The pictures: crops of 256 x 256 pixels as JPEG files, and as our shards."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.benchmarks.crawl_corpus import wallpapers
from tests.benchmarks.loaders.workload import SIDE
from training.shards import SAMPLES
from training.shards.writing import ShardsWriter

QUALITY = 95


def write_pictures(folder: Path, count: int) -> None:
    """`files/NNNNN.jpg` and `shards/`: crops of the wallpapers in several scales."""
    files = folder / "files"
    files.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sources = wallpapers()
    with ShardsWriter(folder / "shards") as writer:
        for number, path in enumerate(sources):
            first, stop = (count * edge // len(sources) for edge in (number, number + 1))
            image = Image.open(path).convert("RGB")
            rows = []
            for index in range(first, stop):
                data = _crop(image, rng)
                (files / f"{index:05d}.jpg").write_bytes(data)
                rows.append(_row(index, data))
            writer.write(pa.Table.from_pylist(rows, schema=SAMPLES))
        writer.finish()


def _crop(image: Image.Image, rng: np.random.Generator) -> bytes:
    """A crop between one and two times the final side, one with detail: skies and plain areas are drawn again."""
    data = b""
    for _ in range(3):
        side = int(SIDE * 2 ** rng.uniform(0, 1))
        x, y = int(rng.integers(image.width - side)), int(rng.integers(image.height - side))
        crop = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=QUALITY)
        data = max(data, buffer.getvalue(), key=len)
        if len(data) >= 20_000:
            break
    return data


def _row(index: int, data: bytes) -> dict[str, object]:
    return {
        "row": index,
        "image_id": hashlib.sha256(data).hexdigest(),
        "bytes": data,
        "frames": [],
        "orientation": 1,
        "source": "wallpapers",
        "source_weight": 1.0,
        "captions": [],
        "label": None,
        "cluster": [],
        "group_id": str(index),
        "weight": 1.0,
    }
