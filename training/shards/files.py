"""Where the bytes of shards come from: files mapped into memory, or any fsspec URL through a cache."""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

import pyarrow as pa

from training.shards.cache import ShardCache
from training.shards.index import ShardEntry
from training.shards.schema import ShardError

Block = tuple[ShardEntry, int]
"""A file of the index and the number of one of its blocks."""

_MAPPED = 1024
_COALESCED = 16 << 20
_FETCHERS = 4
_WAITS = (0.2, 1.0)


class Files(Protocol):
    """The files of one shard folder."""

    @property
    def where(self) -> Path | str:
        """Path or URL of the folder."""

    @property
    def held_bytes(self) -> int | None:
        """Bytes of blocks that a reader may keep mapped; None where mapping costs nothing."""

    def read(self, name: str) -> bytes:
        """A small file as a whole. Raises ShardError."""

    def block(self, entry: ShardEntry, block: int) -> pa.Buffer:
        """One block of a file. Raises ShardError where it is missing or cannot be had intact."""

    def prefetch(self, blocks: Iterable[Block]) -> None:
        """Begin to bring blocks near, and return at once."""

    def stream(self, entry: ShardEntry) -> Iterator[bytes | memoryview]:
        """The bytes of a file from its source, piece by piece, as they lie there. Raises ShardError."""


def open_files(location: str | Path, cache: ShardCache | None = None) -> Files:
    """Files at a path or URL; `file://` is a path. Raises ShardError where nothing can read such a URL."""
    text = str(location)
    if text.startswith("file://"):
        return MappedFiles(Path(unquote(urlparse(text).path)))
    return RemoteFiles(text, cache or ShardCache()) if "://" in text else MappedFiles(Path(text))


class MappedFiles:
    """A local folder, mapped when first touched, never read whole."""

    held_bytes = None

    def __init__(self, folder: Path) -> None:
        self.where = folder
        self._maps: OrderedDict[str, pa.Buffer] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str) -> bytes:
        try:
            return (self.where / name).read_bytes()
        except OSError as error:
            raise ShardError(f"{self.where} holds no readable {name}: {error}") from error

    def block(self, entry: ShardEntry, block: int) -> pa.Buffer:
        first, stop = entry.span(block)
        return self.mapped(entry).slice(first, stop - first)

    def prefetch(self, blocks: Iterable[Block]) -> None:
        """Nothing: the kernel reads ahead."""
        del blocks

    def stream(self, entry: ShardEntry) -> Iterator[bytes | memoryview]:
        try:
            with (self.where / entry.name).open("rb") as file:
                while piece := file.read(_COALESCED):
                    yield piece
        except OSError as error:
            raise ShardError(str(error)) from error

    def mapped(self, entry: ShardEntry) -> pa.Buffer:
        """The whole file, mapped; the kernel decides what of it stays in memory."""
        with self._lock:
            whole = self._maps.pop(entry.name, None)
            if whole is None:
                path = self.where / entry.name
                try:
                    whole = pa.memory_map(str(path)).read_buffer()
                except OSError as error:
                    raise ShardError(f"{path} cannot be read: {error}") from error
                if entry.bytes and whole.size != entry.bytes:
                    raise ShardError(
                        f"{path} has {whole.size:,} bytes, not {entry.bytes:,}: it is damaged; `curatrain shard "
                        f"verify {self.where}` says which rows are"
                    )
            self._maps[entry.name] = whole
            if len(self._maps) > _MAPPED:
                self._maps.popitem(last=False)
            return whole


class RemoteFiles:
    """A folder at any fsspec URL. A record batch is fetched as one range, checked, and kept in the cache;
    neighbours that are asked for together come as one range of up to 16 MiB."""

    def __init__(self, url: str, cache: ShardCache) -> None:
        from fsspec.core import url_to_fs

        self.where = url.rstrip("/")
        self.cache = cache
        self.held_bytes = cache.max_bytes // 8
        try:
            self._fs, self._root = url_to_fs(self.where)
        except (ValueError, ImportError, OSError) as error:
            raise ShardError(f"{url} cannot be opened: {error}") from error
        self._fetchers: list[threading.Thread] = []
        self._queue: SimpleQueue[list[Block]] = SimpleQueue()
        self._coming: set[tuple[str, int]] = set()

    def read(self, name: str) -> bytes:
        return self._fetched(name, None, None)

    def block(self, entry: ShardEntry, block: int) -> pa.Buffer:
        found = self.cache.open(entry, block)
        return found if found is not None else self._fetch(entry, [block])[block]

    def prefetch(self, blocks: Iterable[Block]) -> None:
        """Begin to fetch blocks that the cache lacks, in this order, at most half of its bound. What cannot be
        fetched is tried again, and told, when it is read."""
        room = self.cache.max_bytes // 2
        run: list[Block] = []
        for entry, block in blocks:
            if (entry.name, block) in self._coming or self.cache.holds(entry, block):
                continue
            room -= _size(entry, [block])
            if room < 0:
                break
            if run and (run[-1] != (entry, block - 1) or _size(entry, [b for _, b in run]) > _COALESCED):
                self._fetch_soon(run)
                run = []
            run.append((entry, block))
        if run:
            self._fetch_soon(run)

    def _fetch_soon(self, run: list[Block]) -> None:
        while len(self._fetchers) < _FETCHERS:
            # daemons: what was only fetched ahead must not keep a process from ending
            self._fetchers.append(threading.Thread(target=self._fetch_ahead, name="fetch", daemon=True))
            self._fetchers[-1].start()
        self._coming.update((entry.name, block) for entry, block in run)
        self._queue.put(run)

    def _fetch_ahead(self) -> None:
        while True:
            run = self._queue.get()
            with contextlib.suppress(ShardError, OSError):
                self._fetch(run[0][0], [block for _, block in run])
            self._coming.difference_update((entry.name, block) for entry, block in run)

    def stream(self, entry: ShardEntry) -> Iterator[bytes | memoryview]:
        for first in range(0, entry.bytes, _COALESCED):
            data = self._fetched(entry.name, first, min(first + _COALESCED, entry.bytes))
            if len(data) == entry.bytes:  # the server knows no ranges
                yield data
                return
            yield data

    def _fetch(self, entry: ShardEntry, blocks: list[int]) -> dict[int, pa.Buffer]:
        """Neighbouring blocks, as buffers of the cache's files where these are still there."""
        with self.cache.fetching(entry, blocks):
            found = {block: self.cache.open(entry, block) for block in blocks}
            lacking = [block for block in blocks if found[block] is None]
            for block, part in (self._intact(entry, lacking) if lacking else {}).items():
                self.cache.put(entry, block, part)
                if block in found:
                    found[block] = self.cache.open(entry, block) or pa.py_buffer(bytes(part))
        return found

    def _intact(self, entry: ShardEntry, blocks: list[int]) -> dict[int, memoryview]:
        """Blocks from the source with the right checksums; fetched again where a transfer spoilt them."""
        first, stop = entry.offsets[blocks[0]], entry.offsets[blocks[-1] + 1]
        for wait in (*_WAITS, None):
            data = memoryview(self._fetched(entry.name, first, stop))
            if len(data) == entry.bytes:  # the server knows no ranges: the other batches come for nothing
                blocks, base = list(range(1, entry.batches + 1)), 0
            else:
                base = first
            parts = {block: data[entry.offsets[block] - base : entry.offsets[block + 1] - base] for block in blocks}
            wrong = [block for block, part in parts.items() if zlib.crc32(part) != entry.crc32[block]]
            if not wrong:
                return parts
            if wait is not None:
                time.sleep(wait)
        raise ShardError(
            f"{self.where}/{entry.name}: record batch {wrong[0] - 1} is damaged at its source; "
            f"`curatrain shard verify {self.where}` says which rows are"
        )

    def _fetched(self, name: str, first: int | None, stop: int | None) -> bytes:
        path = f"{self._root.rstrip('/')}/{name}"
        problem: Any = None
        for wait in (*_WAITS, None):
            try:
                return bytes(self._fs.cat_file(path, start=first, end=stop))
            except FileNotFoundError as error:
                raise ShardError(f"{self.where}/{name} does not exist") from error
            except Exception as error:  # noqa: BLE001 - every file system has errors of its own
                problem = error
            if wait is not None:
                time.sleep(wait)
        raise ShardError(f"{self.where}/{name} cannot be read: {type(problem).__name__}: {problem}") from problem


def _size(entry: ShardEntry, blocks: list[int]) -> int:
    return entry.offsets[blocks[-1] + 1] - entry.offsets[blocks[0]]
