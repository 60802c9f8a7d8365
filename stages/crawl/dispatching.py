"""Which request starts next: hosts take turns, each at its own pace, and a slow one keeps no place from the others."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from stages.crawl.hosts import Breaker, Host, Pace, Patience

Job = TypeVar("Job")

_SLOW_S = 2.0
_SLOW_FACTOR = 8
_HOSTS_KEPT = 20_000


class Dispatcher(Generic[Job]):
    """Starts jobs on the running event loop.

    work: does a job of a host. pace_of: the pace of a host by name.
    concurrency: jobs at the same time. One that has run for two seconds does not count any more, since it waits and
    costs nothing; of all jobs, up to eight times as many run.
    """

    def __init__(
        self,
        work: Callable[[Job, Host[Job]], Awaitable[None]],
        pace_of: Callable[[str], Pace],
        patience: Patience,
        concurrency: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._pace_of = pace_of
        self._patience = patience
        self._concurrency = concurrency
        self._hosts: OrderedDict[str, Host[Job]] = OrderedDict()
        self._ready: deque[Host[Job]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quick: dict[asyncio.Task[None], float] = {}  # since when it has run, oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._paused = self._held = False

    def submit(self, name: str, job: Job, *, first: bool = False) -> None:
        """Queue a job at a host, before the others where it is `first`."""
        host = self._host(name)
        if first:
            host.queue.appendleft(job)
        else:
            host.queue.append(job)
        self._offer(host)
        self._pump()

    def submit_later(self, delay_s: float, name: str, job: Job) -> None:
        """Queue a job again after a while."""
        self._loop.call_later(delay_s, lambda: self.submit(name, job, first=True))

    def hold(self, on: bool) -> None:
        """Start nothing while this is on: what came has to be dealt with first."""
        if self._held and not on:
            self._loop.call_soon(self._pump)
        self._held = on

    def pause(self) -> None:
        """Start nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Start again, with a clean sheet for every host."""
        self._paused = False
        for host in self._hosts.values():
            host.breaker = Breaker(self._patience)
            self._offer(host)
        self._pump()

    async def close(self) -> None:
        """Stop all that runs."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _host(self, name: str) -> Host[Job]:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(name, self._pace_of(name), Breaker(self._patience))
            if len(self._hosts) > _HOSTS_KEPT:
                self._forget_one()
        else:
            self._hosts.move_to_end(name)
        return host

    def _forget_one(self) -> None:
        """Drop the host that was named longest ago, if nothing waits there; otherwise look at it again later."""
        oldest = next(iter(self._hosts))
        if self._hosts[oldest].queue or self._hosts[oldest].running:
            self._hosts.move_to_end(oldest)
        else:
            del self._hosts[oldest]

    def _offer(self, host: Host[Job]) -> None:
        if host.queue and not host.offered:
            host.offered = True
            self._ready.append(host)

    def _pump(self) -> None:
        while (
            self._ready
            and not (self._paused or self._held)
            and len(self._quick) < self._concurrency
            and len(self._tasks) < self._concurrency * _SLOW_FACTOR
        ):
            host = self._ready.popleft()
            if not host.queue or not host.has_room():
                host.offered = False  # offered again when one of its jobs ends
                continue
            now = self._loop.time()
            at = host.ready_at(now)
            if at > now and not host.breaker.given_up:
                self._loop.call_at(at, self._wake, host)
                continue
            self._start(host, now)

    def _wake(self, host: Host[Job]) -> None:
        host.offered = False
        self._offer(host)
        self._pump()

    def _start(self, host: Host[Job], now: float) -> None:
        if host.bucket:
            host.bucket.take(now)
        host.running += 1
        task = self._loop.create_task(self._run(host, host.queue.popleft()))
        self._tasks.add(task)
        self._quick[task] = now
        if self._timer is None:
            self._timer = self._loop.call_at(now + _SLOW_S, self._leave_slow_ones)
        host.offered = False
        self._offer(host)

    async def _run(self, host: Host[Job], job: Job) -> None:
        try:
            await self._work(job, host)
        finally:
            host.running -= 1
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
                self._quick.pop(task, None)
            self._offer(host)
            self._pump()

    def _leave_slow_ones(self) -> None:
        """Count those no longer that have run for long; one timer for all, since each would cost as much as a job."""
        now = self._loop.time()
        while self._quick:
            task, since = next(iter(self._quick.items()))
            if now < since + _SLOW_S:
                break
            del self._quick[task]
        oldest = next(iter(self._quick.values()), None)
        self._timer = None if oldest is None else self._loop.call_at(oldest + _SLOW_S, self._leave_slow_ones)
        self._pump()
