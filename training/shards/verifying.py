"""Finding damage: which bits of which shard are not those that were written, and which rows they belong to."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from training.shards.files import Files
from training.shards.index import Index, ShardEntry
from training.shards.schema import ShardError

OnBytes = Callable[[int], None]
"""Called with the number of bytes that were just read."""


@dataclass(frozen=True)
class Damage:
    """A stretch of rows that is damaged in one file.

    first, stop: rows first..stop-1 of all samples; none where the damage lies in the file's header or footer, which
    hold no row. what: "altered", or "unreadable" with the error's words.
    """

    name: str
    first: int
    stop: int
    what: str


def find_damage(index: Index, files: Files, on_bytes: OnBytes = lambda _bytes: None) -> Iterator[Damage]:
    """Read every file from its source (past any cache), a piece at a time, and compare it with the index."""
    first = 0
    for entry in index.shards:
        yield from _damage(entry, files, first, index.rows_per_batch, on_bytes)
        first += entry.rows
    if index.columns is not None:
        yield from _damage(index.columns, files, 0, index.columns_per_batch, on_bytes)


def _damage(entry: ShardEntry, files: Files, first: int, rows_per_batch: int, on_bytes: OnBytes) -> Iterator[Damage]:
    whole = hashlib.sha256()
    checksums = _Blocks(entry)
    try:
        for piece in files.stream(entry):
            whole.update(piece)
            checksums.update(piece)
            on_bytes(len(piece))
    except ShardError as error:
        yield Damage(entry.name, first, first + entry.rows, f"unreadable: {error}")
        return
    if whole.hexdigest() == entry.sha256:
        return
    wrong = checksums.wrong()
    if not wrong:
        yield Damage(entry.name, first, first + entry.rows, "altered")
    for block in wrong:
        if 1 <= block <= entry.batches:
            start = first + (block - 1) * rows_per_batch
            yield Damage(entry.name, start, min(start + rows_per_batch, first + entry.rows), "altered")
        else:
            yield Damage(entry.name, first, first, "altered in its header or footer, which hold no row")


class _Blocks:
    """Checksums of a file's blocks from a stream of its bytes, however that is cut."""

    def __init__(self, entry: ShardEntry) -> None:
        self._entry = entry
        self._found = [0] * len(entry.crc32)
        self._position = self._block = 0

    def update(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        while len(view) and self._block < len(self._found):
            left = self._entry.offsets[self._block + 1] - self._position
            self._found[self._block] = zlib.crc32(view[:left], self._found[self._block])
            self._position += min(left, len(view))
            self._block += len(view) >= left
            view = view[left:]

    def wrong(self) -> list[int]:
        """Blocks that are altered or cut off."""
        whole = self._block
        return [
            block
            for block, (found, wanted) in enumerate(zip(self._found, self._entry.crc32, strict=True))
            if found != wanted or block >= whole
        ]
