"""Near pairs of more rows than one machine should hold or one pass should compare, as tasks for any number of workers.

Two ways. *All pairs of parts*: exact, n² cosines. *Cells*: an inverted file (Sivic, Zisserman, 2003; the IVF of
faiss): rows are clustered, and each is compared with those of the few cells whose centroids are most similar to it;
what that misses is measured on a sample.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.lloyd import LocalParts, lloyd
from curation.nearest import Indices, Links, cross_links, joined, near_links, ranked, top_links
from curation.row_blocks import RowRange, spans
from curation.row_files import MapTasks, RowFiles, Task, save_array

_ROWS_PER_CELL = 32
_CELL_TASKS = 256
_RECORD = np.dtype([("row", np.int64), ("column", np.int64), ("cosine", np.float32)])


@dataclass(frozen=True)
class Cells:
    """How rows are divided for a search of cells.

    count: cells; 0: the square root of rows times probes, where finding cells costs what searching them does.
    probes: cells that each row is compared with. iterations, seed: of the k-means on 32 rows a cell, from random rows:
    they give cells of more equal sizes than well spread ones, and cost nothing.
    """

    count: int = 0
    probes: int = 32
    iterations: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Recall:
    """Of `true` links of `rows` sampled rows by an exact search, how many were `found`."""

    rows: int
    true: int
    found: int

    @property
    def share(self) -> float:
        return self.found / self.true if self.true else 1.0


@dataclass(frozen=True)
class Search:
    """What links are wanted of unit rows: the k most similar others with at least cosine `threshold`.

    folder: on a disk that all workers see. What tasks hand over stays there until the caller removes it: the same
    search goes on from what an interrupted one has left, and another search needs another folder.
    part_rows: rows of a part; they change the speed alone.
    """

    points: RowFiles
    threshold: float
    k: int
    folder: Path
    part_rows: int

    @property
    def parts(self) -> list[slice]:
        return list(spans(len(self.points), self.part_rows))

    def config(self) -> dict[str, Any]:
        return {
            "rows": self.points.spec,
            "threshold": self.threshold,
            "k": self.k,
            "folder": str(self.folder),
            "part_rows": self.part_rows,
        }


def all_links(search: Search, map_tasks: MapTasks) -> Links:
    """The links that `curation.nearest.near_links` gives, by pairs of parts."""
    starts = [part.start for part in search.parts]
    tasks = [{"left": a, "right": b} for a, b in itertools.combinations_with_replacement(starts, 2)]
    map_tasks(PairLinks, search.config(), tasks, on_done=_ignore)
    files = {a: [search.folder / f"links-{a}-{b}.npy" for b in starts] for a in starts}
    return joined([_merged(files[part.start], part, search.k) for part in search.parts])


def cell_links(search: Search, cells: Cells, map_tasks: MapTasks) -> Links:
    """Most of the links that `all_links` gives; each that is found has its exact cosine."""
    probes = cells.probes
    count = min(len(search.points), cells.count or math.isqrt(len(search.points) * probes))
    probes = min(probes, count)
    rng = np.random.default_rng(cells.seed)
    size = min(len(search.points), _ROWS_PER_CELL * count)
    sample = search.points[np.sort(rng.choice(len(search.points), size, replace=False))]
    first = sample[np.sort(rng.choice(size, count, replace=False))]
    centroids = lloyd(LocalParts(sample), first, iterations=cells.iterations, spherical=True)
    save_array(search.folder / "centroids.npy", centroids)
    config = {**search.config(), "probes": probes}
    tasks = [{"start": part.start} for part in search.parts]
    map_tasks(PartCells, config, tasks, on_done=_ignore)
    groups = list(spans(count, math.ceil(count / _CELL_TASKS)))
    tasks = [{"first": group.start, "last": group.stop} for group in groups]
    map_tasks(CellLinks, config, tasks, on_done=_ignore)
    files = [search.folder / f"cells-{group.start}.npy" for group in groups]
    return joined([_merged(files, part, search.k) for part in search.parts])


def sample_recall(search: Search, links: Links, map_tasks: MapTasks, rows: int = 1000, seed: int = 0) -> Recall:
    """How many of the exact links of `rows` sampled rows are among `links`."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(search.points), min(rows, len(search.points)), replace=False))
    save_array(search.folder / "sample.npy", sample)
    tasks = [{"start": part.start} for part in search.parts]
    map_tasks(SampleLinks, search.config(), tasks, on_done=_ignore)
    files = [search.folder / f"sample-{part.start}.npy" for part in search.parts]
    true = _merged(files, slice(0, len(search.points)), search.k)
    wanted, have = (each.rows * len(search.points) + each.columns for each in (true, links))
    return Recall(len(sample), len(true.rows), int(np.isin(wanted, have).sum()))


class _LinkWorker:
    def __init__(self, rows: dict[str, Any], threshold: float, k: int, folder: str, part_rows: int) -> None:
        self.points = RowFiles(**rows)
        self.threshold, self.k, self.part_rows = threshold, k, part_rows
        self.folder = Path(folder)

    def part(self, start: int) -> slice:
        return slice(start, min(start + self.part_rows, len(self.points)))

    def save(self, name: str, links: Links) -> None:
        records = np.empty(len(links.rows), _RECORD)
        records["row"], records["column"], records["cosine"] = links.rows, links.columns, links.cosines
        save_array(self.folder / name, records)


class PairLinks(_LinkWorker):
    """Links between two parts, both ways: `{"left": first row, "right": first row}`."""

    def __call__(self, task: Task) -> Task:
        a, b = task["left"], task["right"]
        if (self.folder / f"links-{b}-{a}.npy").exists():
            return {}
        left = self.points[self.part(a)]
        if a == b:
            self.save(f"links-{a}-{a}.npy", _shifted(near_links(left, self.threshold, self.k), a, a))
        else:
            there, back = cross_links(left, self.points[self.part(b)], self.threshold, self.k)
            self.save(f"links-{a}-{b}.npy", _shifted(there, a, b))
            self.save(f"links-{b}-{a}.npy", _shifted(back, b, a))
        return {}


class PartCells(_LinkWorker):
    """The cells of a part's rows: `{"start": first row}`. Writes rows sorted by the cell that they probe, those whose
    own cell it is apart, each with the places where the cells begin."""

    def __init__(self, probes: int, **search: Any) -> None:
        super().__init__(**search)
        self.centroids = np.load(self.folder / "centroids.npy")
        self.probes = probes

    def __call__(self, task: Task) -> Task:
        part = self.part(task["start"])
        links = top_links(RowRange(self.points, part), self.centroids, self.probes)
        cells = links.columns.reshape(-1, self.probes)
        for name, of in (("probing", cells), ("own", cells[:, :1])):
            order = np.argsort(of.ravel(), kind="stable")
            begins = np.searchsorted(of.ravel()[order], np.arange(len(self.centroids) + 1))
            save_array(self.folder / f"{name}-{part.start}.npy", part.start + order // of.shape[1])
            save_array(self.folder / f"{name}-begins-{part.start}.npy", begins)
        return {}


class CellLinks(_LinkWorker):
    """Links between the rows of each cell and the rows that probe it: `{"first": cell, "last": cell}`."""

    def __init__(self, probes: int, **search: Any) -> None:
        super().__init__(**search)
        del probes

    def __call__(self, task: Task) -> Task:
        name = f"cells-{task['first']}.npy"
        if (self.folder / name).exists():
            return {}
        found = []
        probing, own = (self._members(name, task["first"], task["last"]) for name in ("probing", "own"))
        for left, right in zip(probing, own, strict=True):
            if len(right):
                there, back = cross_links(self.points[left], self.points[right], self.threshold, self.k + 1)
                found.append(Links(left[there.rows], right[there.columns], there.cosines))
                found.append(Links(right[back.rows], left[back.columns], back.cosines))
        self.save(name, _distinct(joined(found), self.k))
        return {}

    def _members(self, name: str, first: int, last: int) -> list[Indices]:
        """Rows of each of the cells from `first` to `last`, ascending."""
        rows, cells = [], []
        for part in spans(len(self.points), self.part_rows):
            begins = np.load(self.folder / f"{name}-begins-{part.start}.npy", mmap_mode="r")[first : last + 1]
            rows.append(np.load(self.folder / f"{name}-{part.start}.npy", mmap_mode="r")[begins[0] : begins[-1]])
            cells.append(np.repeat(np.arange(first, last), np.diff(begins)))
        order = np.argsort(np.concatenate(cells), kind="stable")
        ends = np.searchsorted(np.concatenate(cells)[order], np.arange(first + 1, last))
        return np.split(np.concatenate(rows)[order], ends)


class SampleLinks(_LinkWorker):
    """Exact links from the sampled rows to a part: `{"start": first row}`."""

    def __call__(self, task: Task) -> Task:
        part = self.part(task["start"])
        sample = np.load(self.folder / "sample.npy")
        links = top_links(self.points[sample], self.points[part], self.k + 1, self.threshold)
        found = Links(sample[links.rows], links.columns + part.start, links.cosines)
        self.save(f"sample-{part.start}.npy", _distinct(found, self.k))
        return {}


def _shifted(links: Links, rows: int, columns: int) -> Links:
    return Links(links.rows + rows, links.columns + columns, links.cosines)


def _distinct(links: Links, k: int) -> Links:
    """The k best links of each row to other rows, each once."""
    keys = np.stack([links.rows, links.columns])
    _, first = np.unique(keys, axis=1, return_index=True)
    first = first[links.rows[first] != links.columns[first]]
    return ranked(Links(links.rows[first], links.columns[first], links.cosines[first]), k)


def _merged(files: list[Path], part: slice, k: int) -> Links:
    """The k best links of the rows of a part, from files sorted by row."""
    found = []
    for path in files:
        records: NDArray[Any] = np.load(path, mmap_mode="r")
        begin, end = np.searchsorted(records["row"], (part.start, part.stop))
        inside = records[begin:end]
        found.append(Links(inside["row"].copy(), inside["column"].copy(), inside["cosine"].copy()))
    return _distinct(joined(found), k)


def _ignore(_: Task) -> None:
    return None
