"""The same JPEG files in each peer's own format. Runs in the peers' environment: `peer_formats SYSTEM FOLDER`."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path


def encoded(folder: Path) -> Iterator[bytes]:
    for path in sorted((folder / "files").glob("*.jpg")):
        yield path.read_bytes()


def webdataset(folder: Path, out: Path) -> None:
    out.mkdir()
    pictures = list(encoded(folder))
    for first in range(0, len(pictures), 512):
        with tarfile.open(out / f"{first:05d}.tar", "w") as tar:
            for index, data in enumerate(pictures[first : first + 512], first):
                entry = tarfile.TarInfo(f"{index:05d}.jpg")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def mosaic(folder: Path, out: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(out), columns={"jpg": "bytes"}) as writer:
        for data in encoded(folder):
            writer.write({"jpg": data})


def _sample(path: str) -> dict[str, bytes]:
    return {"jpg": Path(path).read_bytes()}


def litdata(folder: Path, out: Path) -> None:
    from litdata import optimize

    paths = [str(path) for path in sorted((folder / "files").glob("*.jpg"))]
    optimize(fn=_sample, inputs=paths, output_dir=str(out), chunk_bytes="64MB", num_workers=1)


def datasets(folder: Path, out: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"jpg": list(encoded(folder))}).save_to_disk(str(out))


def lance(folder: Path, out: Path) -> None:
    import lance
    import pyarrow as pa

    lance.write_dataset(pa.table({"jpg": pa.array(list(encoded(folder)), pa.large_binary())}), str(out))


FORMATS = {f.__name__: f for f in (webdataset, mosaic, litdata, datasets, lance)}

if __name__ == "__main__":
    FORMATS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[2]) / sys.argv[1])
