"""What each site asks of crawlers: its robots.txt and TDM reservations, fetched first and kept for a day at most."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from yarl import URL

from stages.crawl.exchange import Exchange, Fetched, anything, next_url
from stages.crawl.reasons import Reason
from stages.crawl.reservations import TDM_PATH, TdmFile
from stages.crawl.robots import LONGEST_CACHE_S, LONGEST_DELAY_S, MAX_BYTES, MAX_REDIRECTS, Group, Robots, parse

_SITES_KEPT = 20_000


@dataclass(frozen=True)
class SiteRules:
    """The rules of one origin (scheme, host and port).

    robots: None where robots.txt is not asked for. found: whether there is one.
    failure: set where it cannot be reached, which forbids everything (RFC 9309, section 2.3.1.4).
    """

    robots: Robots | None = None
    found: bool = False
    tdm: TdmFile | None = None
    failure: Fetched | None = None
    until: float = 0.0

    @property
    def crawl_delay(self) -> float | None:
        return self.robots.crawl_delay if self.robots else None

    def verdict(self, url: str) -> tuple[bool, str | None, str | None]:
        """(whether a URL may be fetched, the evidence in words for the ledger, the reason code if it may not)."""
        if self.tdm is not None and self.tdm.reserves(url):
            return False, "tdmrep.json: tdm-reservation 1", Reason.OPTED_OUT
        if self.robots is None:
            return True, None, None
        if not self.found:
            return True, "allowed: no robots.txt", None
        if (self.crawl_delay or 0.0) > LONGEST_DELAY_S:
            return False, f"disallowed: crawl-delay {self.crawl_delay:g} s", Reason.ROBOTS_DISALLOWED
        verdict = self.robots.verdict(url)
        if verdict.allowed:
            return True, f"allowed: {verdict.rule.pattern}" if verdict.rule else "allowed", None
        return False, f"disallowed: {verdict.rule.pattern if verdict.rule else ''}", Reason.ROBOTS_DISALLOWED


class RuleBook:
    """Fetches and remembers the rules of sites.

    agent: product token of the crawler. robots, tdm: which rules count.
    """

    def __init__(self, exchange: Exchange, agent: str, *, robots: bool, tdm: bool) -> None:
        self._exchange = exchange
        self._agent = agent
        self._robots = robots
        self._tdm = tdm
        self._known: OrderedDict[str, SiteRules] = OrderedDict()
        self._asked: dict[str, asyncio.Task[SiteRules]] = {}

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, url: URL) -> SiteRules:
        """Rules of the site of a URL. A failure to reach robots.txt is told, and not remembered."""
        origin = f"{url.scheme}://{url.authority}"
        known = self._known.get(origin)
        if known is not None and known.until > time.monotonic():
            return known
        if origin not in self._asked:
            self._asked[origin] = asyncio.get_running_loop().create_task(self._ask(url.origin()))
        task = self._asked[origin]
        try:
            rules = await asyncio.shield(task)
        finally:
            if task.done():
                self._asked.pop(origin, None)
        if rules.failure is None:
            self._known[origin] = rules
            if len(self._known) > _SITES_KEPT:
                self._known.popitem(last=False)
        return rules

    async def _ask(self, origin: URL) -> SiteRules:
        robots = await self._get(origin.with_path("/robots.txt")) if self._robots else None
        if robots is not None and _unreachable(robots):
            return SiteRules(failure=robots)
        rules = None
        if robots is not None:
            rules = parse(robots.body, self._agent) if _there(robots) else Robots(Group())
        tdm = await self._get(origin.with_path(TDM_PATH)) if self._tdm else None
        return SiteRules(
            robots=rules,
            found=robots is not None and _there(robots),
            tdm=TdmFile(tdm.body) if tdm is not None and _there(tdm) else None,
            until=time.monotonic() + LONGEST_CACHE_S,
        )

    async def _get(self, url: URL) -> Fetched:
        fetched = await self._exchange.get(url, anything, first_bytes=MAX_BYTES)
        for _ in range(MAX_REDIRECTS):
            target = next_url(url, fetched.location) if fetched.location is not None else None
            if target is None:
                break
            url = target
            fetched = await self._exchange.get(url, anything, first_bytes=MAX_BYTES)
        return fetched


def _there(fetched: Fetched) -> bool:
    return fetched.reason is None and fetched.location is None


def _unreachable(fetched: Fetched) -> bool:
    """Statuses from 400 to 499 say that there are no rules, and so do too many redirects; 429 asks to come later."""
    if fetched.reason in (None, Reason.EMPTY):
        return False
    status = fetched.http_status or 0
    return not 300 <= status < 500 or status == 429
