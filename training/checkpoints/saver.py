"""Saving beside the training, and going on from the newest intact checkpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.tensor import DTensor

from training.checkpoints.committed import (
    VALUES,
    CheckpointError,
    Retention,
    clear_leftovers,
    commit,
    committed_steps,
    damage,
    digest,
    folder_of,
    prune,
    staging_of,
    write_synced,
)
from training.checkpoints.state import TrainingState, model_tensors
from training.process_group import rank, world

# Without a process group that is what is meant.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


@dataclass(frozen=True)
class Restored:
    """What a training goes on from. step: finished steps. skipped: notes on newer checkpoints that were damaged."""

    step: int
    skipped: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints of one training, in `folder`; every rank has one and calls it at the same steps.

    A checkpoint is a folder `step-000000123` of torch.distributed.checkpoint files, a `state.json` of plain values
    and a `manifest.json` with the size and SHA-256 of each. It is written under another name, synced to disk and
    then renamed, so it is whole or not there at whatever moment a process is killed.

    Saving costs the training a copy of its state in memory; a thread writes the copy. A save waits for the one
    before. Replicated tensors are shared out among the ranks, so that each copies and writes its part. Ranks talk
    through a gloo group of their own: a training on nccl, or in the middle of a step, is not disturbed.

    keep_last: newest checkpoints that stay, at least 1. keep_best: best ones by `metric` that stay as well.
    keep_every: those whose step is a multiple stay for good; 0 for none. asynchronous: False writes before `save`
    returns. Raises ValueError where limits make no sense.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        keep_best: int = 0,
        metric: str | None = None,
        higher_is_better: bool = True,
        keep_every: int = 0,
        asynchronous: bool = True,
    ) -> None:
        self.folder = folder
        self.retention = Retention(keep_last, keep_best, metric, higher_is_better, keep_every)
        self.asynchronous = asynchronous
        self._group: Any = dist.new_group(backend="gloo") if world() > 1 else None
        gpu = torch.cuda.is_available()
        self._stager = DefaultStager(StagingOptions(gpu, False, False, gpu))
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._agree(lambda: self._on_first(self._prepare))

    def save(self, step: int, state: TrainingState, metrics: Mapping[str, float] | None = None) -> None:
        """Keep `state` after `step` finished steps; call on every rank.

        metrics: figures of this step, for `keep_best`; without the metric, it is never among the best.
        Raises CheckpointError where the save before this one failed (a full disk, a lost rank), ValueError where
        the state's values are not JSON.
        """
        self.wait()
        values = json.loads(json.dumps(state.values))
        staged = self._stager.stage(_shared_out(state.collect(), rank(), world()))
        self._thread = threading.Thread(
            target=self._write,
            args=(step, staged, values, dict(metrics or {})),
            name=f"checkpoint-{step}",
            daemon=True,
        )
        self._thread.start()
        if not self.asynchronous:
            self.wait()

    def restore(self, state: TrainingState) -> Restored | None:
        """Fill `state` in place from the newest intact checkpoint, or return None where there is none.

        Damaged ones are skipped, with a note. Weights, buffers and the optimiser's state are bitwise those that
        were saved, at whatever number of ranks. Only read checkpoints that you trust: their index is a pickle.
        Raises CheckpointError where the newest intact one is of another model: names or shapes differ.
        """
        self.wait()
        skipped: list[str] = []
        for step in reversed(self._agree(lambda: self._on_first(lambda: committed_steps(self.folder)))[0]):
            path = folder_of(self.folder, step)
            wrong = [note for note in self._agree(partial(damage, path, rank(), world())) if note]
            if not wrong:
                self._read(path, state)
                return Restored(step, tuple(skipped))
            skipped.append(wrong[0])
        return None

    def wait(self) -> None:
        """Return once the last save is committed. Raises CheckpointError where it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointError(f"a checkpoint could not be written: {error}") from error

    def close(self) -> None:
        """Wait for the last save, then let go of buffers and group."""
        try:
            self.wait()
        finally:
            self._stager.close()
            if self._group is not None:
                dist.destroy_process_group(self._group)
                self._group = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self.folder)

    def _write(self, step: int, tensors: dict[str, Tensor], values: Any, metrics: dict[str, float]) -> None:
        try:
            staging = staging_of(self.folder, step)
            self._agree(lambda: self._on_first(lambda: _start(staging, values)))
            writer = dcp.FileSystemWriter(staging)
            with _plain_errors():
                dcp.save(tensors, storage_writer=writer, process_group=self._group, no_dist=self._group is None)
            parts = self._agree(lambda: _digests(staging))
            files = {name: value for part in parts for name, value in part.items()}
            self._agree(lambda: self._on_first(lambda: self._finish(step, files, metrics)))
        except Exception as error:  # noqa: BLE001, the training's own thread raises it
            self._error = error

    def _finish(self, step: int, files: Mapping[str, tuple[int, str]], metrics: Mapping[str, float]) -> None:
        commit(self.folder, step, files, metrics, world())
        prune(self.folder, self.retention, step)

    def _read(self, path: Path, state: TrainingState) -> None:
        reader = dcp.FileSystemReader(path)
        stored = reader.read_metadata().state_dict_metadata
        read = state.destinations(stored)
        with torch.no_grad(), _plain_errors():
            dcp.load(read, storage_reader=reader, process_group=self._group, no_dist=self._group is None)
        state.fill(read, json.loads((path / VALUES).read_text()))

    def _on_first(self, act: Callable[[], Any]) -> Any:
        return act() if rank() == 0 else None

    def _agree(self, act: Callable[[], Any]) -> list[Any]:
        """What `act` returns on each rank. Raises CheckpointError on every rank where it raises on any."""
        try:
            mine: tuple[Any, str | None] = (act(), None)
        except Exception as error:
            if self._group is None:
                raise
            mine = (None, f"{type(error).__name__} on rank {rank()}: {error}")
        if self._group is None:
            return [mine[0]]
        answers: list[Any] = [None] * world()
        dist.all_gather_object(answers, mine, group=self._group)
        wrong = [message for _, message in answers if message]
        if wrong:
            raise CheckpointError(wrong[0])
        return [answer for answer, _ in answers]


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """torch's CheckpointException is a BaseException, which would end a thread unseen."""
    try:
        yield
    except CheckpointException as error:
        causes = [f"rank {rank}: {cause}" for rank, (cause, _) in sorted(error.failures.items())]
        raise CheckpointError("; ".join(causes)) from error


def load_model(path: Path, model: nn.Module) -> None:
    """Fill a model that is not sharded from a checkpoint folder, in this process alone.

    Raises CheckpointError where the checkpoint is of another model.
    """
    reader = dcp.FileSystemReader(path)
    stored = reader.read_metadata().state_dict_metadata
    tensors = model_tensors(model, stored)
    with torch.no_grad(), _plain_errors():
        dcp.load(tensors, storage_reader=reader, no_dist=True)


def _start(staging: Path, values: Any) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write_synced(staging / VALUES, values)


def _digests(staging: Path) -> dict[str, tuple[int, str]]:
    """Sizes and digests of the files that this rank wrote; of the index and the values, too, on the first."""
    own = [path for path in staging.iterdir() if path.name.startswith(f"__{rank()}_")]
    shared = [staging / ".metadata", staging / VALUES] if rank() == 0 else []
    return {path.name: digest(path) for path in sorted(own) + shared}


def _shared_out(tensors: Mapping[str, Tensor], rank: int, world: int) -> dict[str, Tensor]:
    """This rank's tensors: all its shards, and of replicated ones those that make the ranks' parts about equal."""
    mine: dict[str, Tensor] = {name: value for name, value in tensors.items() if isinstance(value, DTensor)}
    loads = [0] * world
    replicated = [name for name in tensors if name not in mine]
    for name in sorted(replicated, key=lambda name: (-tensors[name].nbytes, name)):
        target = loads.index(min(loads))
        loads[target] += tensors[name].nbytes
        if target == rank:
            mine[name] = tensors[name]
    return mine
