"""The ladder's pictures: about 10,000 real ones of three kinds, as shards, an eighth of them held out by group.

fashion: 500 training and 100 test pictures of each of Fashion-MNIST's ten classes. emoji: every emoji without skin
tones as drawn by two hands (Google's Noto and Twitter's Twemoji), labelled by Unicode's nine categories; both drawings
of a concept are held out together. stamps: Tux Paint's stamps, cut-out photographs and drawings, in the folders that
hold at least eight; a stamp is held out together with its mirrored and turned copies.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.benchmarks.curation_sets import fashion, two_vendors
from tests.benchmarks.peers import ENVIRONMENTS
from training.decoding import upright_rgb
from training.shards import SAMPLES, ShardReader, ShardsWriter
from training.shards.index import INDEX

FOLDER = ENVIRONMENTS / "ladder"
TRAIN, HELD_OUT = "train", "held-out"
SETS = ("fashion", "emoji", "stamps")
STAMPS = "tuxpaint-stamps-default"
SIDE = 64
_A_CLASS, _TESTS_A_CLASS = 500, 100
_HELD_OUT_PERCENT = {"emoji": 20, "stamps": 40}
_LEAST_STAMPS = 8


@dataclass(frozen=True)
class Labelled:
    """A picture of one of `SETS`. group: what shows the same; no group is both trained on and held out."""

    data: bytes
    source: str
    label: str
    group: str
    held_out: bool


def ladder_shards() -> Path:
    """The folder with the shards `TRAIN` and `HELD_OUT`, made at first."""
    if not (FOLDER / HELD_OUT / INDEX).exists():
        kept: dict[str, Labelled] = {}
        for picture in (*_fashion(), *_emoji(), *_stamps()):
            kept.setdefault(hashlib.sha256(picture.data).hexdigest(), picture)
        for name in (TRAIN, HELD_OUT):
            _write(FOLDER / name, {i: p for i, p in kept.items() if p.held_out == (name == HELD_OUT)})
    return FOLDER


def data_digest() -> str:
    """Of all pictures and labels: a run on other ones is another run."""
    folder = ladder_shards()
    return hashlib.sha256(b"".join((folder / n / INDEX).read_bytes() for n in (TRAIN, HELD_OUT))).hexdigest()


def rows_of(reader: ShardReader, source: str, most_a_class: int) -> tuple[list[int], list[str]]:
    """Rows of a set, at most so many of a class, and their labels."""
    rows, labels, seen = [], [], Counter[str]()
    pairs = zip(reader.column("source").to_pylist(), reader.column("label").to_pylist(), strict=True)
    for row, (kind, label) in enumerate(pairs):
        if kind == source and seen[label] < most_a_class:
            seen[label] += 1
            rows.append(row)
            labels.append(label)
    return rows, labels


def _fashion() -> Iterator[Labelled]:
    tested = Counter[str]()
    for picture in fashion(10_000):
        tested[picture.group] += 1
        if tested[picture.group] <= _TESTS_A_CLASS:
            yield Labelled(picture.data, "fashion", picture.group, f"test-{picture.name}", held_out=True)
    home = ENVIRONMENTS / "dataset-fashion-mnist"
    images, labels = (
        np.frombuffer(gzip.decompress(next(home.rglob(f"train-{name}-ubyte.gz")).read_bytes()), np.uint8, offset=at)
        for name, at in (("images-idx3", 16), ("labels-idx1", 8))
    )
    for c in range(10):
        for row in np.flatnonzero(labels == c)[:_A_CLASS]:
            pixels = images[row * 784 : (row + 1) * 784].reshape(28, 28)
            yield Labelled(_png(Image.fromarray(pixels)), "fashion", str(c), f"train-{row}", held_out=False)


def _emoji() -> Iterator[Labelled]:
    pictures = two_vendors()
    listed = json.loads((ENVIRONMENTS / "emoji-datasource-google" / "package" / "emoji.json").read_text())
    categories = {emoji["image"]: emoji["category"] for emoji in listed}
    for picture in pictures:
        if categories.get(picture.group, "Component") != "Component":
            yield Labelled(
                picture.data, "emoji", categories[picture.group], picture.group, _held_out("emoji", picture.group)
            )


def _stamps() -> Iterator[Labelled]:
    home = ENVIRONMENTS / STAMPS
    if not (home / "files").exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", STAMPS], cwd=home, check=True)
        (archive,) = home.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "files"], cwd=home, check=True)
        archive.unlink()
    root = next((home / "files").rglob("stamps"))
    paths = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    labels = {path: "/".join(path.parent.parts[:2]) for path in paths}
    counts = Counter(labels.values())
    for path in paths:
        if counts[labels[path]] >= _LEAST_STAMPS:
            group = str(path.with_name(path.stem.removesuffix("_mirror").removesuffix("_flip")))
            image = upright_rgb((root / path).read_bytes())
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            yield Labelled(_png(image), "stamps", labels[path], group, _held_out("stamps", group))


def _held_out(source: str, group: str) -> bool:
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 100 < _HELD_OUT_PERCENT[source]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _write(folder: Path, pictures: dict[str, Labelled]) -> None:
    rows = [
        {
            "image_id": image_id,
            "bytes": picture.data,
            "frames": [],
            "orientation": 1,
            "source": picture.source,
            "source_weight": 1.0,
            "captions": [],
            "label": picture.label,
            "group_id": picture.group,
            "weight": 1.0,
        }
        for image_id, picture in sorted(pictures.items())
    ]
    with ShardsWriter(folder) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=SAMPLES))
        writer.finish()
