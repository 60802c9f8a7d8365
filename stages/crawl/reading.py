"""Reading what a crawl finds without HTTP: files of folders, samples of tar files, pictures in tables."""

from __future__ import annotations

import contextlib
import os
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, BinaryIO

from stages.crawl.folders import file_path
from stages.crawl.ledger import Row, ok_row, other_row
from stages.crawl.reasons import Reason
from stages.crawl.sniffing import SNIFF_BYTES, image_mime
from stages.crawl.storage import DAMAGED, open_inflated, open_stored
from stages.crawl.table_files import BinaryTable
from stages.crawl.targets import Target

FILE, TAR, TAR_STREAM, TABLE = "file", "tar", "tar_stream", "table"
"""Kinds of `Target.place`: "file"; "tar:<offset>:<size>"; "tar_stream:<number>" (compressed, so read in order);
"table:<group>:<row>:<column>"."""

_AT_ONCE = 16


def container_of(target: Target) -> str:
    """URI of the file that holds a target: the target's own, or that of the archive or table around it."""
    return target.url if target.place == FILE else target.url.partition("#")[0]


def batches(targets: Iterable[Target]) -> Iterator[list[list[Target]]]:
    """What may be read side by side: one item a container, each a list of batches to be read in order."""
    for place, group in groupby(targets, key=lambda target: container_of(target)):
        del place
        members = list(group)
        yield [members[start : start + _AT_ONCE] for start in range(0, len(members), _AT_ONCE)]


class Reader:
    """Reads targets that have a `place`; safe to call from several threads.

    options: storage options by name of the source. max_bytes: longest file.
    """

    def __init__(self, options: Mapping[str, Mapping[str, Any]], max_bytes: int) -> None:
        self._options = options
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._open: dict[str, _Container] = {}

    def rows(self, targets: Sequence[Target]) -> list[Row]:
        """Rows of targets of one container, in their order. Nothing is raised: what cannot be read has its reason."""
        return [self._row(target) for target in targets]

    def close(self) -> None:
        for container in self._open.values():
            container.close()
        self._open.clear()

    def _row(self, target: Target) -> Row:
        try:
            if target.place == FILE:
                return self._file_row(target)
            with self._lock:
                body = self._container(target).member(target)
        except FileNotFoundError:
            return other_row(target, "failed", Reason.MISSING)
        except PermissionError:
            return other_row(target, "failed", Reason.UNREADABLE)
        except DAMAGED as error:
            code = Reason.UNREADABLE if target.place == FILE else Reason.DAMAGED_CONTAINER
            del error
            return other_row(target, "failed", code)
        if not body:
            return other_row(target, "skipped", Reason.NO_PICTURE if body is None else Reason.EMPTY)
        return self._judged(target, body, len(body), target.version)

    def _file_row(self, target: Target) -> Row:
        if not target.url.startswith("file://"):
            with open_stored(target.url, self._options.get(target.source, {})) as remote:
                return self._read(target, remote, None)
        with file_path(target.url).open("rb") as file:
            return self._read(target, file, os.fstat(file.fileno()))

    def _read(self, target: Target, file: BinaryIO, status: os.stat_result | None) -> Row:
        head = file.read(SNIFF_BYTES)
        if image_mime(head) is None:
            return other_row(target, "skipped", Reason.NOT_IMAGE if head else Reason.EMPTY)
        body = head + file.read(self._max_bytes + 1 - len(head))
        if status is None:
            return self._judged(target, body, None, target.version)
        return self._judged(target, body, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")

    def _judged(self, target: Target, body: bytes, size: int | None, version: str) -> Row:
        if len(body) > self._max_bytes:
            return other_row(target, "failed", Reason.TOO_LARGE, size=size)
        if image_mime(body[:SNIFF_BYTES]) is None:
            return other_row(target, "skipped", Reason.NOT_IMAGE)
        return ok_row(target, body, version=version, final_url=target.origin or target.url)

    def _container(self, target: Target) -> _Container:
        uri, kind = container_of(target), (target.place or "").partition(":")[0]
        if uri not in self._open:
            while len(self._open) >= 4:
                self._open.pop(next(iter(self._open))).close()
            options = self._options.get(target.source, {})
            self._open[uri] = _Tar(uri, options) if kind in (TAR, TAR_STREAM) else _Table(uri, options)
        return self._open[uri]


class _Container:
    def member(self, target: Target) -> bytes | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _Tar(_Container):
    """An uncompressed archive is read at the member's offset, a compressed one from front to back."""

    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        self._uri, self._options = uri, options
        self._raw: BinaryIO | None = None
        self._stream: tarfile.TarFile | None = None
        self._next = 0

    def member(self, target: Target) -> bytes | None:
        kind, first, *rest = (target.place or "").split(":")
        if kind == TAR:
            if self._raw is None:
                self._raw = open_stored(self._uri, self._options)
            self._raw.seek(int(first))
            body = self._raw.read(int(rest[0]))
            if len(body) < int(rest[0]):
                raise EOFError("the archive ends within a member")
            return body
        return self._streamed(int(first))

    def _streamed(self, number: int) -> bytes | None:
        if self._stream is None or number < self._next:
            self.close()
            self._raw = open_inflated(self._uri, self._options)
            self._stream, self._next = tarfile.open(fileobj=self._raw, mode="r|"), 0  # noqa: SIM115 - closed by close
        while (member := self._stream.next()) is not None:
            self._next += 1
            if self._next == number + 1:
                file = self._stream.extractfile(member)
                return file.read() if file else None
            self._stream.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
        raise EOFError("the archive ends before the member")

    def close(self) -> None:
        for opened in (self._stream, self._raw):
            if opened is not None:
                with contextlib.suppress(*DAMAGED):
                    opened.close()
        self._stream = self._raw = None


class _Table(_Container):
    """A Parquet or Arrow file, read forwards in batches of bounded size."""

    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        self._opened = open_stored(uri, options)
        self._uri = uri
        self._at: tuple[int, int] | None = None
        self._batch: Any = None
        self._batches: Any = None
        self._column = ""

    def member(self, target: Target) -> bytes | None:
        _, group_text, row_text, column = (target.place or "").split(":", 3)
        group, row = int(group_text), int(row_text)
        if self._at is None or (group, row) < self._at or column != self._column:
            self._opened.seek(0)
            self._batches, self._column = BinaryTable(self._opened, self._uri).batches([column], group), column
            self._at = (group, 0)
            self._batch = None
        while self._batch is None or self._at[0] < group or row >= self._at[1] + self._batch.num_rows:
            found = next(self._batches, None)
            if found is None:
                raise EOFError("the table ends before the row")
            first_group, first_row, self._batch = found
            self._at = (first_group, first_row)
        return encoded(self._batch.column(0)[row - self._at[1]].as_py())

    def close(self) -> None:
        self._opened.close()


def encoded(value: Any) -> bytes | None:
    """The encoded picture in a cell: bytes, or the `bytes` of a struct, as Hugging Face data sets have it."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None
