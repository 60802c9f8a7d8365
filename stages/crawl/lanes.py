"""A lane of the crawl: the targets of some hosts, fetched side by side and committed part by part.

A host belongs to one lane, so that its pace holds whatever the number of workers, without anything that they share.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifact import Artifact
from stages.crawl import ledger, reading
from stages.crawl.client import fetcher_of
from stages.crawl.earlier import Earlier
from stages.crawl.fetching import Fetched
from stages.crawl.reasons import Reason
from stages.crawl.resizing import Resizer, with_body
from stages.crawl.targets import Target, TargetList
from stages.takedowns import read_takedowns

if TYPE_CHECKING:
    from stages.crawl import CrawlParams

WINDOW_ROWS = 16_384
"""So many rows may be under way: a host that is slow or asked for slowly holds up the others only when they are all
its own."""

_READERS = 16
_HELD_BYTES = 128_000_000
_SKIPPED = frozenset({Reason.ROBOTS_DISALLOWED, Reason.ROBOTS_UNREACHABLE, Reason.OPTED_OUT})

OnRow = Callable[[], None]


@dataclass(frozen=True)
class LaneSetup:
    """What a lane needs to know; plain values, since it may run on another machine.

    connect_to: see `Network`. lanes: their number, which stays the same for one list.
    """

    params: CrawlParams
    work: Path
    earlier: list[Artifact]
    connect_to: Mapping[str, tuple[str, int]]
    lanes: int


def lane_of(target: Target, lanes: int) -> int:
    """The lane of a target, by a hash of its host, or of the file that holds it."""
    if lanes == 1:
        return 0
    place = reading.container_of(target) if target.place else ledger.host_of(target.url) or target.url
    return zlib.crc32(place.encode("utf-8", "surrogatepass")) % lanes


class Lane:
    """Fetches what no finished part holds. Parts are committed as their last row comes, in any order.

    on_row: called for every row; what it raises stops the lane.
    """

    def __init__(self, setup: LaneSetup, number: int, on_row: OnRow) -> None:
        self._setup = setup
        self._number = number
        self._on_row = on_row
        self._params = setup.params
        self._takedowns = read_takedowns(setup.params.takedown, "crawl")
        self._window = asyncio.Semaphore(WINDOW_ROWS)
        self._readers = asyncio.Semaphore(_READERS)
        self._arrived: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._open: set[_OpenPart] = set()
        self._held_bytes = 0
        self._resizer: Resizer | None = None

    async def run(self, targets: TargetList) -> None:
        """Work through the list. Raises what `on_row` raises, and StageError where the network stays down."""
        params = self._params
        options = {name: getattr(source, "storage_options", {}) for name, source in params.named_sources().items()}
        with ExitStack() as stack:
            self._reader = reading.Reader(options, params.max_bytes)
            stack.callback(self._reader.close)
            self._earlier = stack.enter_context(
                Earlier(self._setup.earlier, params.refresh, params.retry, self._takedowns, self._setup.work)
            )
            self._earlier.share(targets)
            stack.callback(self._abandon)
            async with AsyncExitStack() as open_stack:
                if params.resize:
                    self._resizer = await open_stack.enter_async_context(Resizer(params.resize, params.resize_quality))
                self._fetcher = await open_stack.enter_async_context(fetcher_of(params, self._setup.connect_to))
                await self._all_parts(targets)

    async def _all_parts(self, targets: TargetList) -> None:
        async with asyncio.TaskGroup() as group:
            consumer = group.create_task(self._consume())
            for index in range(targets.parts):
                unit = index * self._setup.lanes + self._number
                if ledger.has_part(self._setup.work, unit):
                    continue
                members = [t for t in targets.part(index) if lane_of(t, self._setup.lanes) == self._number]
                await self._start(members, unit, group)
            await self._window_empty()
            consumer.cancel()

    async def _window_empty(self) -> None:
        for _ in range(WINDOW_ROWS):
            await self._window.acquire()

    async def _consume(self) -> None:
        while True:
            take = await self._arrived.get()
            take()

    async def _start(self, members: list[Target], unit: int, group: asyncio.TaskGroup) -> None:
        """Start to get the rows of a part; goes on to the next as soon as there is room for it."""
        part = _OpenPart(self._setup.work, unit, len(members))
        self._open.add(part)
        files: list[Target] = []
        for target in members:
            await self._window.acquire()
            if self._earlier.shares(target):
                self._arrive(part, None)
            elif (row := self._earlier.row(target)) is not None:
                self._arrive(part, row)
            elif target.place:
                files.append(target)
            else:
                self._fetch(part, target, group)
        for batches in reading.batches(files):
            await self._readers.acquire()
            group.create_task(self._read(part, batches))
        if not members:
            self._close(part)

    def _fetch(self, part: _OpenPart, target: Target, group: asyncio.TaskGroup) -> None:
        started = datetime.now(UTC)

        def on_done(future: asyncio.Future[Fetched]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._hold(len(future.result().body))
            self._arrived.put_nowait(lambda: self._fetched(part, target, started, future.result(), group))

        future = self._fetcher.submit(target.url, headers=self._earlier.validators(target))
        future.add_done_callback(on_done)

    def _hold(self, size: int) -> None:
        """Count bytes that came and are not written yet, and let the fetcher wait while they are many."""
        self._held_bytes += size
        self._fetcher.hold(self._held_bytes > _HELD_BYTES)

    def _fetched(
        self, part: _OpenPart, target: Target, started: datetime, fetched: Fetched, group: asyncio.TaskGroup
    ) -> None:
        fields = {
            "final_url": fetched.final_url,
            "http_status": fetched.http_status,
            "content_type": fetched.mime,
            "etag": fetched.etag,
            "last_modified": fetched.last_modified,
            "robots": fetched.robots,
            "attempts": fetched.attempts,
            "started_at": started,
        }
        if fetched.reason is None:
            row = self._takedowns.apply(ledger.ok_row(target, fetched.body, **fields))
            if self._resizer is not None and row.get("bytes") is not None:
                group.create_task(self._resize(part, row))
                return
            self._hold(-len(fetched.body))
        elif fetched.reason == Reason.UNCHANGED:
            row = self._earlier.unchanged_row(target, **fields)
        else:
            status = "skipped" if fetched.reason in _SKIPPED else "failed"
            row = ledger.other_row(target, status, fetched.reason, **fields)
        self._add(part, row)

    async def _resize(self, part: _OpenPart, row: ledger.Row) -> None:
        assert self._resizer is not None
        body = await self._resizer.copy(row["bytes"])
        self._hold(-len(row["bytes"]))
        self._arrive(part, row if body is None else with_body(row, body))

    async def _read(self, part: _OpenPart, batches: Iterable[list[Target]]) -> None:
        try:
            for batch in batches:
                for row in await asyncio.to_thread(self._reader.rows, batch):
                    self._arrive(part, row)
        finally:
            self._readers.release()

    def _arrive(self, part: _OpenPart, row: ledger.Row | None) -> None:
        self._arrived.put_nowait(lambda: self._add(part, row))

    def _add(self, part: _OpenPart, row: ledger.Row | None) -> None:
        if row is not None:
            part.writer.add(self._takedowns.apply(row))
        part.left -= 1
        if part.left == 0:
            self._close(part)
        self._window.release()
        self._on_row()

    def _close(self, part: _OpenPart) -> None:
        part.writer.commit()
        self._open.discard(part)

    def _abandon(self) -> None:
        for part in self._open:
            part.writer.abandon()


class _OpenPart:
    """A part of the list whose rows are coming. left: rows that are still to come."""

    def __init__(self, work: Path, unit: int, rows: int) -> None:
        self.writer = ledger.PartWriter(work, unit)
        self.left = rows


class LaneWorker:
    """A lane on a worker of `Compute.map`; writes how far it is to a small file twice a second."""

    def __init__(self, setup: LaneSetup, cancel_flag: str | None) -> None:
        self._setup = setup
        self._cancel_flag = Path(cancel_flag) if cancel_flag else None

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """task: lane (number), progress (path). Gives what stopped it: `failed` (message), `cancelled` or nothing."""
        from stages.base import Cancelled, StageError
        from stages.crawl.event_loop import run

        progress = _ProgressFile(Path(task["progress"]), self._cancel_flag)
        targets = TargetList(self._setup.work / "targets")
        try:
            run(lambda: Lane(self._setup, task["lane"], progress.advance).run(targets), self._setup.params)
        except StageError as error:
            return {"failed": str(error)}
        except Cancelled:
            return {"cancelled": True}
        finally:
            progress.write()
        return {}


class _ProgressFile:
    def __init__(self, path: Path, cancel_flag: Path | None) -> None:
        self._path = path
        self._cancel_flag = cancel_flag
        self._done = 0
        self._written = 0.0

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._written >= 0.5:
            self.write()
            if self._cancel_flag is not None and self._cancel_flag.exists():
                from stages.base import Cancelled

                raise Cancelled

    def write(self) -> None:
        self._written = time.monotonic()
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(str(self._done))
        temporary.replace(self._path)
