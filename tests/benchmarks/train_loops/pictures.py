"""The same photographs as JPEG files for the peers and as shards for us."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from sklearn.datasets import load_sample_images

from training.shards import SAMPLES
from training.shards.writing import ShardsWriter

SIDE = 256
QUALITY = 90


def write_pictures(folder: Path, count: int) -> tuple[Path, Path]:
    """`count` cut-outs of 256 x 256 pixels: a folder of JPEG files in one class folder, and a folder of shards."""
    files, shards = folder / "files", folder / "shards"
    (files / "all").mkdir(parents=True)
    rows = []
    for index, data in enumerate(_encoded(count)):
        (files / "all" / f"{index:05d}.jpg").write_bytes(data)
        rows.append(
            {
                "row": index,
                "image_id": hashlib.sha256(data).hexdigest(),
                "bytes": data,
                "frames": [],
                "orientation": 1,
                "source": "photographs",
                "source_weight": 1.0,
                "captions": [],
                "label": None,
                "cluster": [],
                "group_id": str(index),
                "weight": 1.0,
            }
        )
    with ShardsWriter(shards) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=SAMPLES))
        writer.finish()
    return files, shards


def _encoded(count: int) -> list[bytes]:
    """Cut-outs in several scales, so that files differ in detail and size."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    found = []
    for index in range(count):
        photograph = photographs[index % 2]
        side = int(rng.integers(128, 400))
        x, y = int(rng.integers(photograph.width - side)), int(rng.integers(photograph.height - side))
        buffer = io.BytesIO()
        photograph.crop((x, y, x + side, y + side)).resize((SIDE, SIDE)).save(buffer, "JPEG", quality=QUALITY)
        found.append(buffer.getvalue())
    return found
