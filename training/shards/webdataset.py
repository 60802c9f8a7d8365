"""Shards to and from WebDataset: tar files whose members share a key up to their first dot.

Ours have, for each row, the image under its own extension, further images as `frame000000.*`, all other columns in
`json`, and the first caption in `txt` for readers of image-text pairs.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from training.shards.importing import OnRows, SourceFile, default
from training.shards.reading import ShardReader
from training.shards.schema import COLUMNS, ROWS_PER_BATCH, ShardError

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)
_IMAGES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl", "ppm", "pgm", "bin"}
_NAMES = [name for name in COLUMNS.names if name != "row"]


def export_webdataset(reader: ShardReader, out: Path, on_rows: OnRows = lambda _rows: None) -> list[Path]:
    """Write one tar a shard, members in the order of their names, without times or owners: the same samples, the
    same bytes. Returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    batches = reader.batches()
    for number, entry in enumerate(reader.entries):
        path = out / f"shard-{number:06d}.tar"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for _ in range(entry.batches):
                    batch = next(batches)
                    for row in range(batch.num_rows):
                        for name, data in _members(batch.slice(row, 1).to_pylist()[0]):
                            member = tarfile.TarInfo(name)
                            member.size = len(data)
                            tar.addfile(member, io.BytesIO(data))
                    on_rows(batch.num_rows)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        paths.append(path)
    return paths


def webdataset_samples(files: Sequence[SourceFile]) -> Iterator[dict[str, list[Any]]]:
    """The samples of tar files, streamed, in lots for `import_samples`.

    The first image of a key is its image and any further ones are frames; `json` gives columns by their names
    (`caption` counts as a caption), `txt` a caption and `cls` a label where `json` says none.
    Raises ShardError where a file is not a whole tar.
    """
    for file in files:
        lot: list[dict[str, Any]] = []
        for sample in _samples(file):
            lot.append(sample)
            if len(lot) == ROWS_PER_BATCH:
                yield _columns(lot)
                lot = []
        if lot:
            yield _columns(lot)


def _members(row: dict[str, Any]) -> list[tuple[str, bytes]]:
    key = f"{row['row']:012d}"
    told = {name: row[name] for name in _NAMES}
    members = {f"{key}.json": json.dumps(told, ensure_ascii=False, sort_keys=True).encode()}
    if row["bytes"] is not None:
        members[f"{key}.{_extension(row['bytes'])}"] = row["bytes"]
    for number, frame in enumerate(row["frames"] or ()):
        members[f"{key}.frame{number:06d}.{_extension(frame or b'')}"] = frame or b""
    if row["captions"] and row["captions"][0] is not None:
        members[f"{key}.txt"] = row["captions"][0].encode()
    return sorted(members.items())


def _extension(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for signature, extension in _SIGNATURES if data.startswith(signature)), "bin")


def _samples(file: SourceFile) -> Iterator[dict[str, Any]]:
    try:
        with file.open() as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
            members = ((member, tar.extractfile(member)) for member in tar if member.isfile())
            for _, group in groupby(members, key=lambda pair: _split(pair[0].name)[0]):
                yield _sample([(_split(member.name)[1], data.read() if data else b"") for member, data in group])
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ShardError(f"{file.name} is not a whole tar file: {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ShardError(f"{file.name}: a sample cannot be read: {error}") from error


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return str(path.parent / stem), extension.lower()


def _sample(members: list[tuple[str, bytes]]) -> dict[str, Any]:
    parts = dict(members)
    images = sorted(
        (name for name in parts if name.rpartition(".")[2] in _IMAGES),
        key=lambda name: (name.startswith("frame"), name),
    )
    told = json.loads(parts["json"]) if "json" in parts else {}
    sample = {name: told[name] for name in _NAMES if name in told}
    if "captions" not in sample:
        caption = told.get("caption") or (parts["txt"].decode() if "txt" in parts else None)
        sample["captions"] = [caption] if caption else []
    if sample.get("label") is None and "cls" in parts:
        sample["label"] = parts["cls"].decode().strip()
    if sample.get("label") is not None:
        sample["label"] = str(sample["label"])
    sample["bytes"] = parts[images[0]] if images else None
    sample["frames"] = [parts[name] for name in images[1:]]
    return {**{name: default(name, sample["bytes"]) for name in _NAMES if name not in sample}, **sample}


def _columns(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [sample[name] for sample in samples] for name in samples[0]}
