"""The crawler's client: robots.txt first, redirects by hand, further tries where they help, each host at its pace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from stages.base import StageError
from stages.crawl.dispatching import Dispatcher
from stages.crawl.exchange import Check, Exchange, Fetched, anything, is_image, next_url, web_url
from stages.crawl.hosts import Host, Pace, Patience
from stages.crawl.network import Network
from stages.crawl.outage import OutagePatience, OutageWatch
from stages.crawl.reasons import Reason
from stages.crawl.reservations import OptOuts
from stages.crawl.retrying import NETWORK, backoff, is_busy, is_host_fault, retry_after
from stages.crawl.rules import RuleBook, SiteRules

__all__ = ["Conduct", "Fetched", "Fetcher"]

MAX_REDIRECTS = 5
_NO_CONNECTION = (Reason.DNS, Reason.CONNECT, Reason.TLS, Reason.PRIVATE_ADDRESS, Reason.INVALID_URL)


@dataclass(frozen=True)
class Conduct:
    """How the crawler behaves.

    user_agent: what it calls itself; the product token before the first "/" or space is its name in robots.txt.
    max_bytes: longest body, also after inflating. concurrency: exchanges at a time (see `Dispatcher`).
    retries: further tries of one URL. robots: whether robots.txt is obeyed; opt_outs: directives of X-Robots-Tag and
    meta tags that keep pictures out; tdm: whether TDM reservations do.
    """

    user_agent: str = "curatrain"
    max_bytes: int = 20_000_000
    concurrency: int = 64
    retries: int = 2
    robots: bool = True
    opt_outs: frozenset[str] = frozenset({"noai", "noimageai", "noml", "noindex"})
    tdm: bool = True
    pace: Pace = field(default_factory=Pace)
    patience: Patience = field(default_factory=Patience)
    outage: OutagePatience = field(default_factory=OutagePatience)

    @property
    def token(self) -> str:
        """Product token: the name by which robots.txt speaks of this crawler."""
        return self.user_agent.replace("/", " ").split()[0]


@dataclass(slots=True, eq=False)
class _Job:
    """One URL on its way: `url` is the hop that is next."""

    url: URL
    check: Check
    headers: Mapping[str, str] | None
    future: asyncio.Future[Fetched]
    hops: int = 0
    tries: int = 0
    requests: int = 0
    robots: str | None = None
    fetched: Fetched | None = field(default=None)

    @property
    def host(self) -> str:
        return self.url.host or ""


class Fetcher:
    """Fetches untrusted URLs with manners. Use as an async context manager, within that of its network."""

    def __init__(self, network: Network, conduct: Conduct) -> None:
        self._network = network
        self._conduct = conduct
        self._opt_outs = OptOuts(conduct.token, conduct.opt_outs, conduct.tdm)
        self._exchange = Exchange(network, self._opt_outs, conduct.user_agent, conduct.max_bytes)
        self._rules = RuleBook(self._exchange, conduct.token, robots=conduct.robots, tdm=conduct.tdm)
        self._gave_up: StageError | None = None
        self._waiting: set[asyncio.Future[Fetched]] = set()

    async def __aenter__(self) -> Fetcher:
        conduct = self._conduct
        await self._network.__aenter__()
        self._dispatcher = Dispatcher(self._attempt, self._pace_of, conduct.patience, conduct.concurrency)
        self._outage = OutageWatch[_Job](
            conduct.outage,
            reaches=self._network.reaches,
            accept=self._finish,
            again=self._start_over,
            pause=self._dispatcher.pause,
            resume=self._dispatcher.resume,
            give_up=self._give_up,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._outage.close()
        await self._dispatcher.close()
        await self._rules.close()
        await self._network.__aexit__(*exc)

    async def image(self, url: str, headers: Mapping[str, str] | None = None) -> Fetched:
        """Fetch an image; anything else is left after its first bytes with reason "not_image".

        headers: those of a conditional request. Raises StageError where the network stays down.
        """
        return await self.submit(url, is_image, headers)

    async def any(self, url: str) -> Fetched:
        """Fetch whatever stands there; a page whose meta tags opt out has reason "opted_out"."""
        fetched = await self.submit(url, anything)
        if fetched.reason is None and "html" in (fetched.mime or ""):
            refused = self._opt_outs.of_page(fetched.body)
            if refused:
                fetched.reason, fetched.robots, fetched.body = Reason.OPTED_OUT, refused, b""
        return fetched

    def submit(
        self, url: str, check: Check = is_image, headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[Fetched]:
        """Start to fetch a URL; the future gives what came."""
        future: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        parsed = web_url(url)
        if self._gave_up is not None:
            future.set_exception(self._gave_up)
        elif parsed is None:
            future.set_result(Fetched(url, reason=Reason.INVALID_URL))
        else:
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)
            self._dispatcher.submit(parsed.host or "", _Job(parsed, check, headers, future))
        return future

    def hold(self, on: bool) -> None:
        """Let everything wait while what came is not dealt with."""
        self._dispatcher.hold(on)

    def _pace_of(self, host: str) -> Pace:
        """The user's own hosts, which he names, are asked as fast as the crawler can, unless they object."""
        return Pace(width=self._conduct.concurrency, rate=0.0) if self._network.trusts(host) else self._conduct.pace

    async def _attempt(self, job: _Job, host: Host[_Job]) -> None:
        try:
            await self._try(job, host)
        except Exception as error:  # noqa: BLE001 - a fault of ours must reach whoever waits for the job
            if not job.future.done():
                job.future.set_exception(error)

    async def _try(self, job: _Job, host: Host[_Job]) -> None:
        if host.breaker.given_up:
            self._finish(job, job.fetched or Fetched(str(job.url), reason=Reason.HOST_DOWN))
            return
        rules = await self._rules.of(job.url)
        job.tries += 1
        fetched = self._refusal(rules, job)
        if fetched is None:
            host.open(asyncio.get_running_loop().time(), rules.crawl_delay)
            job.requests += 1
            fetched = await self._exchange.get(job.url, job.check, headers=job.headers)
        self._judge(job, host, fetched)

    def _refusal(self, rules: SiteRules, job: _Job) -> Fetched | None:
        """Why a URL must not be asked for, if so."""
        if rules.failure is not None:
            failure = rules.failure
            job.robots = f"unreachable: {failure.reason}"
            own = failure.reason in _NO_CONNECTION and URL(failure.final_url).host == job.host
            reason = failure.reason if own else Reason.ROBOTS_UNREACHABLE
            return Fetched(str(job.url), reason=reason, again=failure.again, wait_s=failure.wait_s)
        allowed, job.robots, reason = rules.verdict(str(job.url))
        return None if allowed else Fetched(str(job.url), reason=reason)

    def _judge(self, job: _Job, host: Host[_Job], fetched: Fetched) -> None:
        """Decide what follows from what came: an end, the next hop, or another try."""
        now = asyncio.get_running_loop().time()
        if is_host_fault(fetched.reason):
            host.breaker.failed(now)
        elif fetched.http_status is not None:
            host.breaker.succeeded()
            self._outage.answered(job.host, job.url.port or 80)
        if fetched.location is not None:
            self._redirect(job, fetched)
            return
        if fetched.reason in NETWORK:
            self._outage.suspect()
        job.fetched = fetched
        wait_s = self._wait(job, fetched) if fetched.again else 0.0
        if is_busy(fetched.http_status):
            host.slow_down(now, min(wait_s, self._conduct.patience.longest_wait_s))
        if not fetched.again or job.tries > self._conduct.retries or wait_s > self._conduct.patience.longest_wait_s:
            if fetched.reason in NETWORK:
                self._outage.failed(job)
            else:
                self._finish(job)
        else:
            self._dispatcher.submit_later(wait_s, job.host, job)

    def _wait(self, job: _Job, fetched: Fetched) -> float:
        asked = retry_after(fetched.wait_s)
        patience = self._conduct.patience
        own = backoff(str(job.url), job.tries, patience.backoff_s, patience.longest_backoff_s)
        return own if asked is None else asked

    def _redirect(self, job: _Job, fetched: Fetched) -> None:
        """Follow by hand, so that the next host's rules, pace and addresses are heeded as those of the first."""
        target = next_url(job.url, fetched.location or "")
        job.hops += 1
        if target is None:
            self._finish(job, Fetched(fetched.location or "", reason=Reason.INVALID_URL))
        elif job.hops > MAX_REDIRECTS:
            self._finish(job, Fetched(str(target), reason=Reason.TOO_MANY_REDIRECTS, http_status=fetched.http_status))
        else:
            job.tries -= 1
            job.url = target
            self._dispatcher.submit(job.host, job, first=True)

    def _finish(self, job: _Job, fetched: Fetched | None = None) -> None:
        result = fetched or job.fetched
        assert result is not None
        result.attempts = job.requests
        result.robots = result.robots or job.robots
        if not job.future.done():
            job.future.set_result(result)

    def _start_over(self, job: _Job) -> None:
        job.tries = 0
        self._dispatcher.submit(job.host, job)

    def _give_up(self, waited_s: float) -> None:
        self._gave_up = StageError(
            f"no host has answered for {waited_s:.0f} s, not even those that did before: the network seems down; "
            "what was fetched is kept, submit again to go on"
        )
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(self._gave_up)
