"""The crawl itself: find the targets once, fetch them in lanes, take over what earlier crawls hold."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base import Cancelled, StageContext, StageError, StageResult, committed
from stages.crawl import demo_site, ledger
from stages.crawl.client import fetcher_of
from stages.crawl.discovery import discover
from stages.crawl.earlier import Earlier
from stages.crawl.event_loop import run
from stages.crawl.lanes import Lane, LaneSetup, LaneWorker
from stages.crawl.report import counts, taken_over, write_report
from stages.crawl.sources import DemoSource, PageSource, SitemapSource, UrlListSource
from stages.crawl.targets import TargetList, TargetWriter, saved
from stages.takedowns import read_takedowns

if TYPE_CHECKING:
    from stages.crawl import CrawlParams


def crawl(ctx: StageContext[CrawlParams]) -> StageResult:
    """Write the `fetches` table into `ctx.work`.

    Raises StageError where a source is missing, nothing comes, or too large a share fails.
    """
    with ExitStack() as stack:
        connect_to = _start_demo(ctx, stack)
        _ask_for_a_contact(ctx)
        targets = run(lambda: _targets(ctx, connect_to), ctx.params)
        setup = LaneSetup(ctx.params, ctx.work, ctx.earlier, connect_to, _lanes(ctx))
        if setup.lanes == 1:
            _one_lane(ctx, setup, targets)
        else:
            _many_lanes(ctx, setup, targets)
    return _result(ctx, taken_over(ctx.work, targets.began))


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


def _ask_for_a_contact(ctx: StageContext[CrawlParams]) -> None:
    web = any(isinstance(source, PageSource | SitemapSource | UrlListSource) for source in ctx.params.sources)
    if web and not ctx.params.contact:
        ctx.note(
            "crawl.contact is empty: set it to a page or mailbox of yours, so that site owners can reach you "
            "instead of blocking you"
        )


async def _targets(ctx: StageContext[CrawlParams], connect_to: dict[str, tuple[str, int]]) -> TargetList:
    folder = ctx.work / "targets"
    if not saved(folder):
        async with fetcher_of(ctx.params, connect_to) as fetcher:
            with TargetWriter(folder, ctx.params.part_rows) as writer:
                async for target in discover(ctx, fetcher):
                    writer.add(target)
    return TargetList(folder)


def _lanes(ctx: StageContext[CrawlParams]) -> int:
    """The number of lanes; the parts of an interrupted crawl are those of its lanes, so it keeps their number."""
    path = ctx.work / "lanes.json"
    if not path.exists():
        with committed(path) as temporary:
            temporary.write_text(json.dumps(ctx.params.workers))
    return int(json.loads(path.read_text()))


def _one_lane(ctx: StageContext[CrawlParams], setup: LaneSetup, targets: TargetList) -> None:
    done = 0

    def on_row() -> None:
        nonlocal done
        done += 1
        ctx.progress(done, len(targets), "files")

    run(lambda: Lane(setup, 0, on_row).run(targets), ctx.params)


def _many_lanes(ctx: StageContext[CrawlParams], setup: LaneSetup, targets: TargetList) -> None:
    """Lanes on the workers of `ctx.compute`; they say how far they are in files."""
    takedowns = read_takedowns(ctx.params.takedown, "crawl")
    with Earlier(ctx.earlier, ctx.params.refresh, ctx.params.retry, takedowns, ctx.work) as earlier:
        earlier.share(targets)
    folder = ctx.work / "progress"
    folder.mkdir(exist_ok=True)
    tasks = [{"lane": lane, "progress": str(folder / f"{lane}.txt")} for lane in range(setup.lanes)]
    results: list[dict[str, Any]] = []
    cancel_flag = str(ctx.cancel_flag) if ctx.cancel_flag else None
    with _Watch(ctx, folder, len(targets)):
        ctx.compute.map(
            LaneWorker,
            {"setup": setup, "cancel_flag": cancel_flag},
            tasks,
            actors=setup.lanes,
            on_done=results.append,
        )
    shutil.rmtree(folder)
    ctx.check_cancelled()
    if any("cancelled" in result for result in results):
        raise Cancelled
    for result in results:
        if "failed" in result:
            raise StageError(result["failed"])


class _Watch:
    """Reports the progress of lanes while the caller waits for them."""

    def __init__(self, ctx: StageContext[CrawlParams], folder: Path, total: int) -> None:
        self._ctx = ctx
        self._folder = folder
        self._total = total
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crawl-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            done = sum(int(path.read_text() or 0) for path in self._folder.glob("*.txt"))
            try:
                self._ctx.progress(done, self._total, "files")
            except Cancelled:  # the lanes see the flag themselves
                return


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
    total_bytes = write_report(ctx.work, ctx.report)
    return StageResult(
        digest=None,
        rows_in=sum(table.values()),
        rows_out=ok,
        metrics={
            "fetched": sum(table.values()) - reused,
            "reused": reused,
            "ok": ok,
            "failed": failed,
            "skipped": by_status["skipped"],
            "bytes": total_bytes,
        },
        summary=f"{ok} pictures, {reused} of them taken over; {failed} failed, {by_status['skipped']} skipped",
    )
