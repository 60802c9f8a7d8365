"""Telling a network outage from dead URLs: failures count only while hosts that answered before still answer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")

_WITNESSES = 4
_NEEDED = 3


@dataclass(frozen=True)
class OutagePatience:
    """Times in seconds.

    settle_s: how long a failure stays in doubt before hosts are asked; doubts: so many ask at once.
    longest_s: how long an outage is waited for. probe_s: time for one host to accept a connection.
    """

    settle_s: float = 3.0
    doubts: int = 32
    longest_s: float = 600.0
    probe_s: float = 5.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0


class OutageWatch(Generic[Job]):
    """Holds back network failures until something answers, or until hosts that answered before were tried.

    Where at least three hosts answered before and none of them accepts a connection any more, the network is down:
    the crawl pauses, and what was in doubt is tried again afterwards.

    reaches: whether a (host, port) accepts a connection. accept: takes a failure for what it is. again: gives a job
    another try. pause, resume: stop and start the crawl. give_up: called when the outage lasts too long.
    """

    def __init__(
        self,
        patience: OutagePatience,
        *,
        reaches: Callable[[str, int, float], Awaitable[bool]],
        accept: Callable[[Job], None],
        again: Callable[[Job], None],
        pause: Callable[[], None],
        resume: Callable[[], None],
        give_up: Callable[[float], None],
    ) -> None:
        self._patience = patience
        self._reaches = reaches
        self._accept = accept
        self._again = again
        self._pause = pause
        self._resume = resume
        self._give_up = give_up
        self._witnesses: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._doubts: list[Job] = []
        self._inquiry: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._silent = True

    def answered(self, host: str, port: int) -> None:
        """Something came from a host: the network is there, and failures before were no fault of it."""
        place = (host, port)
        if place not in self._witnesses:
            self._witnesses[place] = None
            if len(self._witnesses) > _WITNESSES:
                self._witnesses.popitem(last=False)
        self._silent = False
        if self._doubts:
            self._settle(self._accept)

    def suspect(self) -> None:
        """A try failed in a way that the network may be the cause of."""
        if self._inquiry is None and len(self._witnesses) >= _NEEDED:
            self._silent = True
            self._hurry.clear()
            self._inquiry = asyncio.get_running_loop().create_task(self._inquire())

    def failed(self, job: Job) -> None:
        """A job ended with a failure that the network may be the cause of."""
        if len(self._witnesses) < _NEEDED:
            self._accept(job)
            return
        self._doubts.append(job)
        self.suspect()
        if len(self._doubts) >= self._patience.doubts:
            self._hurry.set()

    async def close(self) -> None:
        if self._inquiry is not None:
            self._inquiry.cancel()
            await asyncio.gather(self._inquiry, return_exceptions=True)

    def _settle(self, decide: Callable[[Job], None]) -> None:
        doubts, self._doubts = self._doubts, []
        for job in doubts:
            decide(job)

    async def _inquire(self) -> None:
        try:
            async with asyncio.timeout(self._patience.settle_s):
                await self._hurry.wait()
        except TimeoutError:
            pass
        if not self._silent or await self._anybody_there():
            self._settle(self._accept)
        else:
            self._pause()
            if await self._over():
                self._settle(self._again)
                self._resume()
        self._inquiry = None
        if self._doubts:
            self.suspect()

    async def _over(self) -> bool:
        """Wait until a witness answers; False where that takes too long."""
        waited, pause = 0.0, self._patience.first_pause_s
        while waited < self._patience.longest_s:
            await asyncio.sleep(pause)
            waited += pause
            pause = min(2 * pause, self._patience.longest_pause_s)
            if await self._anybody_there():
                return True
        self._give_up(waited)
        return False

    async def _anybody_there(self) -> bool:
        found = await asyncio.gather(*(self._reaches(*place, self._patience.probe_s) for place in self._witnesses))
        return any(found)
