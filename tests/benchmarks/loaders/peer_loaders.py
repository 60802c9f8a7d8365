"""The peers' loaders. Runs in their environment: `peer_loaders SYSTEM decode|raw FOLDER`.

Each decodes with OpenCV, the fastest of the decoders that they offer, into a uint8 tensor, and batches are collated
into one tensor, which the workers hand over in shared memory. All shuffle as they can.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.loaders.workload import BATCH, SIDE, WORKERS, leave, measure

Passes = Callable[[int], Iterable[Any]]
Take = Callable[[bytes], Any]


def decoded(data: bytes) -> torch.Tensor:
    """(H, W, 3) RGB."""
    return torch.from_numpy(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def as_is(data: bytes) -> bytes:
    return data


def collated(take: Take, rows: list[Any]) -> Any:
    taken = [take(row["jpg"]) for row in rows]
    return taken if take is as_is else torch.stack(taken)


def torch_loader(dataset: Any, take: Take, shuffle: bool | None = True, kind: type = DataLoader) -> Passes:
    """Two processes that stay for all passes."""
    loader = kind(
        dataset,
        batch_size=BATCH,
        shuffle=shuffle,
        num_workers=WORKERS,
        drop_last=True,
        persistent_workers=True,
        collate_fn=list if take is as_is else None,
    )
    return lambda _: loader


class Files(Dataset):
    def __init__(self, folder: Path, take: Take) -> None:
        self.paths, self.take = sorted(str(path) for path in (folder / "files").glob("*.jpg")), take

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.take(Path(self.paths[index]).read_bytes())


class Arrow(Dataset):
    """Our shards as anybody would read them: memory-mapped once in each worker, record batches kept."""

    def __init__(self, folder: Path, take: Take) -> None:
        self.paths, self.take = sorted(str(path) for path in (folder / "shards").glob("shard-*.arrow")), take
        self.ends = np.cumsum([len(batch) for batch in _record_batches(self.paths)])
        self.batches: list[Any] = []

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Any:
        self.batches = self.batches or _record_batches(self.paths)
        number = int(np.searchsorted(self.ends, index, side="right"))
        return self.take(self.batches[number][index - int(self.ends[number])].as_py())


def _record_batches(paths: list[str]) -> list[Any]:
    import pyarrow as pa

    files = [pa.ipc.open_file(pa.memory_map(path)) for path in paths]
    return [file.get_batch(number).column("bytes") for file in files for number in range(file.num_record_batches)]


def files(folder: Path, take: Take) -> Passes:
    return torch_loader(Files(folder, take), take)


def arrow(folder: Path, take: Take) -> Passes:
    return torch_loader(Arrow(folder, take), take)


def webdataset(folder: Path, take: Take) -> Passes:
    import webdataset as wds

    tars = sorted(str(path) for path in (folder / "webdataset").glob("*.tar"))
    data = wds.WebDataset(tars, shardshuffle=len(tars), seed=0).shuffle(1000).to_tuple("jpg")
    return torch_loader(data.map(lambda sample: take(sample[0])), take, shuffle=None)


def mosaic(folder: Path, take: Take) -> Passes:
    from streaming import StreamingDataset

    class Pictures(StreamingDataset):
        def __getitem__(self, at: int) -> Any:
            return take(super().__getitem__(at)["jpg"])

    return torch_loader(Pictures(local=str(folder / "mosaic"), shuffle=True, batch_size=BATCH), take, shuffle=None)


def litdata(folder: Path, take: Take) -> Passes:
    from litdata import StreamingDataLoader, StreamingDataset

    class Pictures(StreamingDataset):
        def __getitem__(self, index: Any) -> Any:
            return take(super().__getitem__(index)["jpg"])

    return torch_loader(Pictures(str(folder / "litdata"), shuffle=True), take, shuffle=None, kind=StreamingDataLoader)


def datasets(folder: Path, take: Take) -> Passes:
    from datasets import load_from_disk

    pictures = load_from_disk(str(folder / "datasets"))
    pictures = pictures.with_transform(lambda rows: {"jpg": [take(data) for data in rows["jpg"]]})
    collate = (lambda rows: [row["jpg"] for row in rows]) if take is as_is else None
    loader = DataLoader(
        pictures,
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        drop_last=True,
        persistent_workers=True,
        collate_fn=collate,
    )
    return lambda _: (batch if take is as_is else batch["jpg"] for batch in loader)


def lance(folder: Path, take: Take) -> Passes:
    """Lance's own loader, with its batched reads; it spawns its workers, since Lance does not survive a fork."""
    from lance.torch.data import SafeLanceDataset, get_safe_loader

    loader = get_safe_loader(
        SafeLanceDataset(str(folder / "lance")),
        batch_size=BATCH,
        num_workers=WORKERS,
        shuffle=True,
        drop_last=True,
        collate_fn=functools.partial(collated, take),
    )
    return lambda _: loader


def lance_threads(folder: Path, take: Take) -> Passes:
    """What nobody ships: by hand, a process that takes a shuffled batch of rows and decodes it on two threads."""
    from concurrent.futures import ThreadPoolExecutor

    import lance

    table = lance.dataset(str(folder / "lance"))
    pool = ThreadPoolExecutor(WORKERS)

    def one_pass(number: int) -> Iterable[Any]:
        order = np.random.default_rng(number).permutation(table.count_rows())
        for first in range(0, len(order) - BATCH + 1, BATCH):
            encoded = table.take(order[first : first + BATCH], columns=["jpg"])["jpg"].to_pylist()
            if take is as_is:
                yield encoded
                continue
            batch = torch.empty(BATCH, SIDE, SIDE, 3, dtype=torch.uint8)
            for place, picture in enumerate(pool.map(take, encoded)):
                batch[place] = picture
            yield batch

    return one_pass


SPAWNS = ("lance",)
LOADERS = {f.__name__: f for f in (files, arrow, webdataset, mosaic, litdata, datasets, lance, lance_threads)}

if __name__ == "__main__":
    system, mode, where = sys.argv[1:]
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    libraries = {"files": "torch", "arrow": "pyarrow", "mosaic": "streaming", "lance_threads": "lance"}
    importlib.import_module(libraries.get(system, system))
    take = decoded if mode == "decode" else as_is
    measure(functools.partial(LOADERS[system], Path(where), take), spawned=WORKERS if system in SPAWNS else 0)
    leave()
