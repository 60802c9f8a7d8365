"""From a step to a batch of decoded canvases: decoding threads, a cache of small pictures, one batch ahead."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.decoding import WHITE, UndecodableError, canvas
from training.order import batch_rows
from training.shards import ShardReader


@dataclass(frozen=True)
class Batch:
    """A rank's share of a global batch.

    canvases: (B, 3, C, C) uint8. aspects: (B,) width / height. rows: (B,) shard rows.
    """

    canvases: Tensor
    aspects: NDArray[np.float64]
    rows: NDArray[np.int64]


class Loader:
    """Batches by step. The step is the only state: any step can be asked for at any time.

    canvas_size: side of the square that whole pictures are squeezed into. cache_bytes: memory for decoded
    canvases; the first rows that fit are decoded once. A row that cannot be decoded is replaced by the next one
    that can, and remembered in `undecodable` with what the decoder said.
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
        threads: int = 2,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.reader = reader
        self.canvas_size = canvas_size
        self.global_batch, self.seed, self.rank, self.world = global_batch, seed, rank, world
        self.undecodable: dict[int, str] = {}
        slots = min(len(reader), cache_bytes // (3 * canvas_size**2))
        self._cache = np.empty((slots, 3, canvas_size, canvas_size), dtype=np.uint8)
        self._aspects = np.zeros(slots)
        self._decoders = ThreadPoolExecutor(max(1, threads), thread_name_prefix="decode")
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._next: tuple[int, Future[Batch]] | None = None

    def batch(self, step: int) -> Batch:
        """The batch of a step; the next step's is prepared meanwhile."""
        ready = self._next[1] if self._next is not None and self._next[0] == step else None
        future = ready or self._ahead.submit(self._assemble, step)
        self._next = (step + 1, self._ahead.submit(self._assemble, step + 1))
        return future.result()

    def close(self) -> None:
        """Stop the threads."""
        self._ahead.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def _assemble(self, step: int) -> Batch:
        rows = batch_rows(step, self.rank, self.world, self.global_batch, len(self.reader), self.seed)
        canvases = np.empty((len(rows), 3, self.canvas_size, self.canvas_size), dtype=np.uint8)
        aspects = np.empty(len(rows))

        def fill(position: int) -> None:
            canvases[position], aspects[position] = self._canvas(int(rows[position]))

        missing = []
        for position, row in enumerate(rows):
            if row < len(self._aspects) and self._aspects[row] > 0:
                fill(position)
            else:
                missing.append(position)
        list(self._decoders.map(fill, missing))
        return Batch(torch.from_numpy(canvases), aspects, rows)

    def _canvas(self, row: int) -> tuple[NDArray[np.uint8], float]:
        cached = row < len(self._aspects)
        if cached and self._aspects[row] > 0:
            return self._cache[row], float(self._aspects[row])
        pixels, aspect = self._decoded(row)
        if cached:
            self._cache[row] = pixels
            self._aspects[row] = aspect
        return pixels, aspect

    def _decoded(self, row: int) -> tuple[NDArray[np.uint8], float]:
        for candidate in range(row, row + len(self.reader)):
            candidate %= len(self.reader)
            data, orientation = self.reader.encoded(candidate)
            try:
                found = canvas(data, orientation, self.canvas_size, WHITE)
            except UndecodableError as error:
                self.undecodable[candidate] = str(error)
                continue
            return found.pixels, found.aspect
        raise UndecodableError("no row of the shards can be decoded")
