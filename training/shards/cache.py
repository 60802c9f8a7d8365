"""Blocks of remote shards on the local disk: bounded in bytes, shared by the processes of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from training.shards.index import ShardEntry
from training.shards.schema import ShardError

_LOCKS = 256
_RESERVE = 16


def default_folder() -> Path:
    """`curatrain/shards` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curatrain" / "shards"


@dataclass
class ShardCache:
    """Least recently used blocks make room for new ones. A block is a file named after the SHA-256 of its shard, so
    shards of the same content share it wherever they lie; it is renamed into place when whole, and checked against
    its checksum when a process first maps it, so a half-written file is never used.

    max_bytes: bound on the files. A block that is evicted while a reader has it mapped takes space until that reader
    lets it go; a reader holds at most an eighth of the bound.
    """

    folder: Path = field(default_factory=default_folder)
    max_bytes: int = 10 << 30

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self._written = self.max_bytes
        self._lock = threading.Lock()
        self._checked: set[tuple[str, int]] = set()

    def holds(self, entry: ShardEntry, block: int) -> bool:
        """Whether the block's file is there."""
        return self._path(entry, block).exists()

    def open(self, entry: ShardEntry, block: int) -> pa.Buffer | None:
        """The block, mapped and checked; None where it is absent or damaged (then its file is removed)."""
        path = self._path(entry, block)
        try:
            os.utime(path)
            file = (path.name, path.stat().st_ino)
            buffer = pa.memory_map(str(path)).read_buffer()
        except FileNotFoundError:
            return None
        first, stop = entry.span(block)
        known = file in self._checked
        if buffer.size != stop - first or not (known or zlib.crc32(memoryview(buffer)) == entry.crc32[block]):
            path.unlink(missing_ok=True)
            return None
        self._checked.add(file)
        return buffer

    def put(self, entry: ShardEntry, block: int, data: bytes | memoryview) -> None:
        """Keep a block. Raises ShardError where it alone is larger than the bound, or the disk takes no more."""
        if len(data) > self.max_bytes - self.max_bytes // _RESERVE:
            raise ShardError(
                f"a record batch of {entry.name} has {len(data):,} bytes, too many for a cache of "
                f"{self.max_bytes:,}: allow a larger cache, or write the shards with fewer rows a batch"
            )
        path = self._path(entry, block)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            raise ShardError(f"the cache of shards {self.folder} cannot be written: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def fetching(self, entry: ShardEntry, blocks: Sequence[int]) -> Iterator[None]:
        """Hold the locks of these blocks, so that threads and processes of a machine fetch each block once."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            for number in sorted({zlib.crc32(f"{entry.sha256}{block}".encode()) % _LOCKS for block in blocks}):
                file = stack.enter_context((folder / f"{number:03d}").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _path(self, entry: ShardEntry, block: int) -> Path:
        return self.folder / entry.sha256[:2] / f"{entry.sha256}.{block}"

    def _make_room(self, size: int) -> None:
        """Delete the blocks that were not used for longest. The folder is listed anew after every sixteenth of the
        bound that this process wrote, and that much is left free for the other processes."""
        reserve = self.max_bytes // _RESERVE
        with self._lock:
            self._written += size
            if self._written <= reserve:
                return
            self._written = size
            files = []
            for path in self.folder.glob("??/*"):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    files.append((stat.st_mtime_ns, path.name, stat.st_size, path))
            excess = sum(file[2] for file in files) + size - (self.max_bytes - reserve)
            for _, _, bytes_, path in sorted(files):
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= bytes_
