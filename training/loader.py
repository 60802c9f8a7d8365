"""From a step to a batch of decoded canvases: threads that decode in place, some batches ahead of the training."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.canvases import CanvasMemory
from training.decoding import UndecodableError, decode_into
from training.order import epoch_of
from training.populations import population
from training.sampling import Population, Sampling, Stream, Weights
from training.shards import ShardReader

_CHUNKS_A_THREAD = 4
_FETCHED_AHEAD = 8


@dataclass(frozen=True)
class Batch:
    """A rank's share of a global batch.

    canvases: (B, 3, C, C) uint8, channels last in memory. aspects: (B,) width / height. rows: (B,) shard rows.
    """

    canvases: Tensor
    aspects: NDArray[np.float64]
    rows: NDArray[np.int64]


class Loader:
    """Batches by step. Any step can be asked for at any time; what it holds does not depend on threads or ranks.

    canvas_size: side of the square that whole pictures are squeezed into. cache_bytes: memory for decoded canvases;
    the first rows that fit are decoded once. accumulate: equal parts that a step is trained in: a rank's rows are its
    share of each part, so that a part holds the same rows for any number of ranks. ahead: batches that are prepared
    beyond the one asked for. pinned: put batches into page-locked memory, for a GPU. A row that cannot be decoded is
    replaced by the next one that can be drawn and decoded, and remembered in `undecodable` with what the decoder said.
    Raises ValueError where the shards lack what the sampling asks for, or `world` does not divide `global_batch`.
    """

    def __init__(
        self,
        reader: ShardReader,
        *,
        canvas_size: int,
        global_batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        threads: int = 2,
        cache_bytes: int = 1 << 30,
        sampling: Sampling | None = None,
        ahead: int = 2,
        pinned: bool = False,
    ) -> None:
        self.reader, self.canvas_size = reader, canvas_size
        self.global_batch, self.seed, self.rank, self.world = global_batch, seed, rank, world
        self.accumulate = accumulate
        self.sampling, self.ahead = sampling or Sampling(), ahead
        self.undecodable: dict[int, str] = {}
        self._weights: dict[int, Weights] = {}
        self._populations: dict[int, Population] = {}
        self._epoch = -1
        self._cache = _Cache(min(len(reader), cache_bytes // (3 * canvas_size**2)), canvas_size)
        self._memory = CanvasMemory((global_batch // world, canvas_size, canvas_size, 3), pinned)
        self._threads = max(1, threads)
        self._decoders = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._coming: dict[int, _Coming] = {}
        self._fetched = 0
        self._lock = threading.Lock()
        self._rows(0)

    def batch(self, step: int) -> Batch:
        """The batch of a step; the next ones are prepared meanwhile."""
        with self._lock:
            wanted = range(step, step + 1 + self.ahead)
            for other in [number for number in self._coming if number not in wanted]:
                self._coming.pop(other).cancel()
            for number in wanted:
                if number not in self._coming:
                    self._coming[number] = self._begin(number)
            self._epoch = self.epoch(step)
            coming = self._coming.pop(step)
        batch, undecodable = coming.result()
        self.undecodable.update(undecodable)
        return batch

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return epoch_of(step, len(self.reader), self.global_batch)

    def set_weights(self, epoch: int, weights: Weights) -> None:
        """From this epoch on, draw by these row weights (N,) instead of those that the sampling names.

        Shares of sources and homogeneous batches stay. Every rank has to set the same.
        Raises ValueError where the batch that was asked for last is of that epoch or a later one, or the weights do
        not fit the rows.
        """
        with self._lock:
            if epoch <= self._epoch:
                raise ValueError(f"epoch {epoch} has begun: set weights for epoch {self._epoch + 1} or later")
            given = np.array(weights, np.float64)
            self._populations[epoch] = population(self.reader, self.sampling, given)
            current = self._in_force(max(0, self._epoch))
            self._weights = {e: w for e, w in self._weights.items() if e >= current} | {epoch: given}
            self._forget_coming()

    def state_dict(self) -> dict[str, Any]:
        """All that a step does not say by itself: the weights that were set, by epoch, and what was undecodable."""
        return {
            "weights": {str(epoch): torch.from_numpy(weights) for epoch, weights in self._weights.items()},
            "undecodable": {str(row): text for row, text in sorted(self.undecodable.items())},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the loader whose `state_dict` this is; any number of ranks and threads may have made it."""
        with self._lock:
            self._weights = {int(epoch): np.asarray(weights) for epoch, weights in state["weights"].items()}
            self.undecodable = {int(row): text for row, text in state["undecodable"].items()}
            self._populations, self._epoch, self._fetched = {}, -1, 0
            self._forget_coming()

    def close(self) -> None:
        """Stop the threads."""
        with self._lock:
            self._forget_coming()
        self._decoders.shutdown(cancel_futures=True)

    def _forget_coming(self) -> None:
        for coming in self._coming.values():
            coming.cancel()
        self._coming.clear()

    def _in_force(self, epoch: int) -> int:
        """The epoch whose weights an epoch is drawn by; -1 for those that the sampling names."""
        return max((set_ for set_ in self._weights if set_ <= epoch), default=-1)

    def _rows(self, step: int) -> tuple[NDArray[np.int64], Stream]:
        since = self._in_force(self.epoch(step))
        if since not in self._populations:
            self._populations[since] = population(self.reader, self.sampling, self._weights.get(since))
        drawn = [
            self._populations[since].batch(
                step,
                part * self.world + self.rank,
                self.accumulate * self.world,
                self.global_batch,
                len(self.reader),
                self.seed,
            )
            for part in range(self.accumulate)
        ]
        return np.concatenate([rows for rows, _ in drawn]), drawn[0][1]

    def _begin(self, step: int) -> _Coming:
        if isinstance(self.reader.folder, str):  # a URL
            for following in range(max(step, self._fetched), step + _FETCHED_AHEAD):
                self.reader.prefetch(self._rows(following)[0].tolist())
            self._fetched = step + _FETCHED_AHEAD
        rows, stream = self._rows(step)
        coming = _Coming(self.reader, self._cache, self._memory.take(), rows, stream)
        size = max(1, len(rows) // (self._threads * _CHUNKS_A_THREAD))
        coming.parts = [
            self._decoders.submit(coming.fill, first, min(first + size, len(rows)))
            for first in range(0, len(rows), size)
        ]
        return coming


class _Coming:
    """A batch that threads are filling."""

    def __init__(
        self, reader: ShardReader, cache: _Cache, pixels: Tensor, rows: NDArray[np.int64], stream: Stream
    ) -> None:
        self._reader, self._cache, self._stream = reader, cache, stream
        self._pixels, self._rows, self._aspects = pixels, rows, np.empty(len(rows))
        self.parts: list[Future[dict[int, str]]] = []

    def fill(self, first: int, stop: int) -> dict[int, str]:
        """Decode some of the rows into their places. Returns those that could not be, and why."""
        pixels, undecodable = self._pixels.numpy(), dict[int, str]()
        for place, row in enumerate(self._rows[first:stop].tolist(), first):
            self._aspects[place] = self._cache.into(pixels[place], row) or self._decode(
                pixels[place], row, undecodable
            )
        return undecodable

    def _decode(self, pixels: NDArray[np.uint8], row: int, undecodable: dict[int, str]) -> float:
        candidate = row
        for _ in range(self._stream.size):
            try:
                aspect = decode_into(pixels, *self._reader.encoded(candidate))
            except UndecodableError as error:
                undecodable[candidate] = str(error)
                candidate = self._stream.following(candidate)
            else:
                self._cache.keep(pixels, row, aspect)
                return aspect
        raise UndecodableError("no row of the shards can be decoded")

    def result(self) -> tuple[Batch, dict[int, str]]:
        """Wait for the threads: the batch, and the rows that could not be decoded."""
        undecodable: dict[int, str] = {}
        for part in self.parts:
            undecodable.update(part.result())
        return Batch(self._pixels.permute(0, 3, 1, 2), self._aspects, self._rows), undecodable

    def cancel(self) -> None:
        for part in self.parts:
            part.cancel()


class _Cache:
    """Decoded canvases of the first rows. Two threads may fill a slot at once: they write the same."""

    def __init__(self, slots: int, size: int) -> None:
        self._pixels = np.empty((slots, size, size, 3), np.uint8)
        self._aspects = np.zeros(slots)

    def into(self, pixels: NDArray[np.uint8], row: int) -> float:
        """Copy a row's canvas and return its aspect; 0 where the cache has none."""
        if row >= len(self._aspects) or not (aspect := float(self._aspects[row])):
            return 0.0
        pixels[:] = self._pixels[row]
        return aspect

    def keep(self, pixels: NDArray[np.uint8], row: int, aspect: float) -> None:
        if row < len(self._aspects):
            self._pixels[row] = pixels
            self._aspects[row] = aspect
