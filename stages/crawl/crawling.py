"""The crawl itself: find the targets once, fetch them in parts, take over what earlier crawls hold."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from stages.base import StageContext, StageError, StageResult
from stages.crawl import demo_site, ledger, targets
from stages.crawl.discovery import discover
from stages.crawl.fetching import Fetcher
from stages.crawl.folders import file_path
from stages.crawl.network import CheckedBackend
from stages.crawl.report import counts, write_report
from stages.crawl.sniffing import SNIFF_BYTES, image_mime
from stages.crawl.sources import DemoSource
from stages.crawl.targets import Target

if TYPE_CHECKING:
    from stages.crawl import CrawlParams


def crawl(ctx: StageContext[CrawlParams]) -> StageResult:
    """Write the `fetches` table into `ctx.work`.

    Raises StageError where a source is missing, nothing comes, or too large a share fails.
    """
    with ExitStack() as stack:
        connect_to = _start_demo(ctx, stack)
        reused = _run(_Crawl(ctx, connect_to).run())
    return _result(ctx, reused)


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end, also where the caller's thread has an event loop already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _start_demo(ctx: StageContext[CrawlParams], stack: ExitStack) -> dict[str, tuple[str, int]]:
    connect_to = {}
    for source in ctx.params.sources:
        if isinstance(source, DemoSource):
            ctx.note(demo_site.ATTRIBUTION)
            renders = ctx.work / "renders"
            server = demo_site.prepare(source.limit, renders, lambda done, of: ctx.progress(done, of, "drawings"))
            stack.callback(demo_site.remove_renders, renders)
            connect_to[demo_site.HOST] = stack.enter_context(server)
    return connect_to


class _Crawl:
    def __init__(self, ctx: StageContext[CrawlParams], connect_to: dict[str, tuple[str, int]]) -> None:
        self._ctx = ctx
        params = ctx.params
        allowed = [*params.allow_hosts]
        for source in params.sources:
            allowed.extend(getattr(source, "allow_hosts", ()))
        self._fetcher = Fetcher(
            CheckedBackend(allowed, connect_to),
            timeout_s=params.timeout_s,
            max_bytes=params.max_bytes,
            concurrency=params.concurrency,
            user_agent=params.user_agent,
            retries=params.retries,
        )
        self._slots = asyncio.Semaphore(params.concurrency)
        self._done = 0

    async def run(self) -> int:
        """Fetch whatever no finished part holds; gives the number of rows taken over from earlier crawls."""
        # Names are resolved and files are read on threads: as many as there are fetches, or slow ones hold up all.
        pool = ThreadPoolExecutor(self._ctx.params.concurrency, thread_name_prefix="crawl")
        asyncio.get_running_loop().set_default_executor(pool)
        async with self._fetcher:
            found, part_rows = await self._targets()
            earlier = ledger.Earlier(self._ctx.earlier)
            for start in range(0, len(found), part_rows):
                part = found[start : start + part_rows]
                if not ledger.part_path(self._ctx.work, start // part_rows).exists():
                    await self._fetch_part(start // part_rows, part, earlier, len(found))
                self._done = start + len(part)
            return sum(earlier.holds(target) for target in found)

    async def _targets(self) -> tuple[list[Target], int]:
        path = self._ctx.work / "targets.parquet"
        if not path.exists():
            sources = self._ctx.params.named_sources()
            found = await discover(sources, self._fetcher, lambda pages: self._ctx.progress(pages, None, "pages"))
            targets.save(path, found, self._ctx.params.part_rows)
        return targets.load(path)

    async def _fetch_part(self, index: int, part: list[Target], earlier: ledger.Earlier, total: int) -> None:
        with ledger.writing_part(self._ctx.work, index) as writer:
            new = [target for target in part if not earlier.holds(target)]
            for target in part:
                if earlier.holds(target):
                    writer.add(earlier.row(target))
                    self._advance(total)
            await _as_they_come([self._row(target) for target in new], lambda row: self._add(writer, row, total))

    def _add(self, writer: ledger.PartWriter, row: ledger.Row, total: int) -> None:
        writer.add(row)
        self._advance(total)

    def _advance(self, total: int) -> None:
        self._done += 1
        self._ctx.progress(self._done, total, "files")

    async def _row(self, target: Target) -> ledger.Row:
        if target.outcome is not None:
            status, _, reason = target.outcome.partition(":")
            return ledger.other_row(target, status, reason, http_status=target.http_status)
        async with self._slots:
            if target.url.startswith("file://") and target.version:
                return await asyncio.to_thread(_read_file, target, self._ctx.params.max_bytes)
            return await self._fetch(target)

    async def _fetch(self, target: Target) -> ledger.Row:
        fetched = await self._fetcher.image(target.url)
        fields = {"final_url": fetched.final_url, "http_status": fetched.http_status}
        if fetched.reason is None:
            return ledger.ok_row(target, fetched.body, **fields)
        return ledger.other_row(target, "failed", fetched.reason, mime=fetched.mime, **fields)


async def _as_they_come(work: list[Awaitable[ledger.Row]], on_row: Callable[[ledger.Row], None]) -> None:
    """Run all at once and hand on each result as it comes; stop all where one, or the caller, raises."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        for next_one in asyncio.as_completed(tasks):
            on_row(await next_one)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read_file(target: Target, max_bytes: int) -> ledger.Row:
    try:
        with file_path(target.url).open("rb") as file:
            head = file.read(SNIFF_BYTES)
            if image_mime(head) is None:
                return ledger.other_row(target, "skipped", "not_image" if head else "empty")
            status = os.fstat(file.fileno())
            body = head + file.read(max_bytes + 1 - len(head))
    except OSError as error:
        return ledger.other_row(target, "failed", "missing" if isinstance(error, FileNotFoundError) else "unreadable")
    if len(body) > max_bytes:
        return ledger.other_row(target, "failed", "too_large", size=status.st_size)
    return ledger.ok_row(target, body, version=f"{status.st_size}-{status.st_mtime_ns}", final_url=target.url)


def _result(ctx: StageContext[CrawlParams], reused: int) -> StageResult:
    table = counts(ctx.work)
    by_status: Counter[str] = Counter()
    for (_, status, _), number in table.items():
        by_status[status] += number
    ok, failed = by_status["ok"], by_status["failed"]
    seen = ", ".join(f"{number} {reason or status}" for (_, status, reason), number in table.most_common(8))
    if ok == 0:
        ledger.drop_transient(ctx.work)
        raise StageError(f"crawl.sources gave no picture ({seen or 'no file at all'}); check the sources")
    if failed > ctx.params.max_failed_share * (ok + failed):
        ledger.drop_transient(ctx.work)
        share = failed / (ok + failed)
        raise StageError(
            f"{share:.0%} of the fetches failed, more than crawl.max_failed_share={ctx.params.max_failed_share:g} "
            f"({seen}); submit again to retry, or raise the limit"
        )
    total_bytes = write_report(ctx.work, ctx.report, table)
    return StageResult(
        digest=None,
        rows_in=sum(table.values()),
        rows_out=ok,
        metrics={
            "fetched": ok + failed - reused,
            "reused": reused,
            "ok": ok,
            "failed": failed,
            "skipped": by_status["skipped"],
            "bytes": total_bytes,
        },
        summary=f"{ok} pictures, {reused} of them taken over; {failed} failed, {by_status['skipped']} skipped",
    )
