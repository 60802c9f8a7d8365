"""k-means whose rows no single machine has to hold: workers keep labels and bounds of parts in files.

The parts, and the order in which their changes are added, are those of `curation.lloyd`, so that the result is the
same, bit for bit, on one worker or many. Every file is committed by rename under a name made of the part and the step,
so a task may be run twice or go on where a dead worker stopped.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.assignment import Assignment, assign
from curation.divided import Split, split_clusters
from curation.kmeans import KMeans, kmeans
from curation.lloyd import PART_ROWS, Change, change_of
from curation.row_blocks import RowRange, Rows, spans, take
from curation.row_files import MapTasks, RowFiles, Task, save_array, save_arrays

_SPLIT_TASKS = 1024


class SharedClustering:
    """Clusters rows in files by `map_tasks`, which may run on many machines that all see `folder`; everything else,
    such as the centroids of a lower level, in this process (see `curation.hierarchy.Clustering`).

    part_rows: rows of a part; other values change the last bits of the centroids. `close` removes the files.
    """

    def __init__(self, map_tasks: MapTasks, folder: Path, part_rows: int = PART_ROWS) -> None:
        self.folder = folder
        self._map, self._part_rows = map_tasks, part_rows
        self._made = 0

    def kmeans(self, points: Rows, clusters: int, *, seed: int, iterations: int, spherical: bool) -> KMeans:
        parts = self._parts(points) if isinstance(points, RowFiles) else None
        found = kmeans(
            points,
            clusters,
            seed=seed,
            iterations=iterations,
            spherical=spherical,
            relocation=False,
            parts=parts,
        )
        if parts is not None:
            shutil.rmtree(parts.folder)
        return found

    def assign(self, points: Rows, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not isinstance(points, RowFiles):
            return assign(points, centroids)
        parts = self._parts(points)
        found = parts.assign(centroids)
        shutil.rmtree(parts.folder)
        return found

    def split(self, points: Rows, split: Split, *, iterations: int, spherical: bool) -> KMeans:
        count = len(split.quotas)
        if not isinstance(points, RowFiles):
            return split_clusters(points, split, 0, count, iterations=iterations, spherical=spherical)
        folder = self._fresh("split")
        for name in ("members", "begins", "quotas", "seeds"):
            save_array(folder / f"{name}.npy", getattr(split, name))
        groups = list(spans(count, math.ceil(count / _SPLIT_TASKS)))
        config = {"rows": points.spec, "folder": str(folder), "iterations": iterations, "spherical": spherical}
        tasks = [{"first": group.start, "last": group.stop} for group in groups]
        self._map(ClusterSplit, config, tasks, on_done=lambda _: None)
        found = _appended([folder / f"split-{group.start}.npz" for group in groups])
        shutil.rmtree(folder)
        return found

    def take(self, points: Rows, indices: NDArray[np.int64]) -> Rows:
        if not isinstance(points, RowFiles):
            return take(points, indices)
        return points.narrowed(indices, self._fresh("taken").with_suffix(".npy"))

    def close(self) -> None:
        """Remove what lies in the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self, points: RowFiles) -> FileParts:
        return FileParts(points, self._map, self._fresh("kmeans"), self._part_rows)

    def _fresh(self, name: str) -> Path:
        self._made += 1
        return self.folder / f"{name}-{self._made}"


class FileParts:
    """Parts of rows in files, updated and assigned by tasks (see `curation.lloyd.Parts`)."""

    def __init__(self, points: RowFiles, map_tasks: MapTasks, folder: Path, part_rows: int = PART_ROWS) -> None:
        self.folder = folder
        self._points, self._map = points, map_tasks
        self._parts = list(spans(len(points), part_rows))
        self._step = 0

    def update(self, centroids: NDArray[np.float32], drift: NDArray[np.float64] | None) -> Iterator[Change]:
        step, self._step = self._step, self._step + 1
        moved = self._run(PartUpdate, centroids, drift, step)
        for part in self._parts:
            if moved[part.start]:
                with np.load(self.folder / f"change-{part.start}-{step}.npz") as file:
                    yield Change(file["clusters"], file["sums"], file["counts"])
            for stale in (f"change-{part.start}-{step}.npz", f"state-{part.start}-{step - 1}.npz"):
                (self.folder / stale).unlink(missing_ok=True)

    def assign(self, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        self._run(PartAssign, centroids, None, self._step)
        labels = np.empty(len(self._points), np.int64)
        distances = np.empty(len(self._points), np.float32)
        for part in self._parts:
            with np.load(self.folder / f"nearest-{part.start}.npz") as file:
                labels[part], distances[part] = file["labels"], file["distances"]
        return labels, distances

    def _run(
        self, worker: type, centroids: NDArray[np.float32], drift: NDArray[np.float64] | None, step: int
    ) -> dict[int, int]:
        """Rows that moved, by the start of their part."""
        save_array(self.folder / "centroids.npy", centroids)
        if drift is not None:
            save_array(self.folder / "drift.npy", drift)
        config = {"rows": self._points.spec, "folder": str(self.folder)}
        tasks = [{"start": part.start, "stop": part.stop, "step": step} for part in self._parts]
        moved: dict[int, int] = {}
        self._map(worker, config, tasks, on_done=lambda result: moved.update({result["start"]: result["moved"]}))
        return moved


class _PartWorker:
    def __init__(self, rows: dict[str, Any], folder: str) -> None:
        self.points = RowFiles(**rows)
        self.folder = Path(folder)
        self.centroids = np.load(self.folder / "centroids.npy")


class PartUpdate(_PartWorker):
    """One update of a part: `{"start", "stop", "step"}` to `{"start", "moved": rows}`."""

    def __init__(self, rows: dict[str, Any], folder: str) -> None:
        super().__init__(rows, folder)
        drift = self.folder / "drift.npy"
        self.drift = np.load(drift) if drift.exists() else None

    def __call__(self, task: Task) -> Task:
        start, step = task["start"], task["step"]
        part = Assignment(RowRange(self.points, slice(start, task["stop"])))
        if step:
            with np.load(self.folder / f"state-{start}-{step - 1}.npz") as state:
                part.labels, part.upper, part.lower = state["labels"], state["upper"], state["lower"]
        moves = part.update(self.centroids, self.drift if step else None)
        if moves:
            change = change_of(moves)
            path = self.folder / f"change-{start}-{step}.npz"
            save_arrays(path, clusters=change.clusters, sums=change.sums, counts=change.counts)
        save_arrays(self.folder / f"state-{start}-{step}.npz", labels=part.labels, upper=part.upper, lower=part.lower)
        return {"start": start, "moved": sum(len(move.new) for move in moves)}


class PartAssign(_PartWorker):
    """Labels and distances of a part: `{"start", "stop"}` to `{"start", "moved": 0}`."""

    def __call__(self, task: Task) -> Task:
        labels, distances = assign(RowRange(self.points, slice(task["start"], task["stop"])), self.centroids)
        save_arrays(self.folder / f"nearest-{task['start']}.npz", labels=labels, distances=distances)
        return {"start": task["start"], "moved": 0}


class ClusterSplit:
    """Splits coarse clusters by their own k-means: `{"first", "last"}`."""

    def __init__(self, rows: dict[str, Any], folder: str, iterations: int, spherical: bool) -> None:
        self.points = RowFiles(**rows)
        self.folder = Path(folder)
        names = ("members", "begins", "quotas", "seeds")
        self.plan = Split(*(np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in names))
        self.iterations, self.spherical = iterations, spherical

    def __call__(self, task: Task) -> Task:
        groups = task["first"], task["last"]
        found = split_clusters(self.points, self.plan, *groups, iterations=self.iterations, spherical=self.spherical)
        path = self.folder / f"split-{task['first']}.npz"
        save_arrays(path, centroids=found.centroids, labels=found.labels, distances=found.distances)
        return {}


def _appended(paths: list[Path]) -> KMeans:
    """The clusters of several groups, labels counted through."""
    centroids, labels, distances = [], [], []
    offset = 0
    for path in paths:
        with np.load(path) as file:
            centroids.append(file["centroids"])
            labels.append(file["labels"] + offset)
            distances.append(file["distances"])
        offset += len(centroids[-1])
    return KMeans(np.concatenate(centroids), np.concatenate(labels), np.concatenate(distances))
