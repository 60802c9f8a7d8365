"""What the crawler knows of a host: how fast it may ask, whether it answers, and what waits to be asked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")


@dataclass(frozen=True)
class Pace:
    """How much one host is asked.

    width: requests at a time. rate: requests a second on average, 0 for no limit.
    """

    width: int = 8
    rate: float = 10.0


@dataclass(frozen=True)
class Patience:
    """How failures are waited for; all times in seconds.

    backoff_s, longest_backoff_s: pause before another try, doubling.
    failures: so many in a row open a host's breaker; pause_s: for so long at first, each time four times as long.
    openings: after so many the host is given up.
    longest_wait_s: a Retry-After beyond it is not waited for.
    """

    backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    failures: int = 10
    pause_s: float = 5.0
    openings: int = 2
    longest_wait_s: float = 300.0


class TokenBucket:
    """Tokens come at a steady rate and are kept up to a number; a request takes one."""

    def __init__(self, rate: float, size: float, now: float) -> None:
        self.rate = rate
        self.size = size
        self._tokens = size
        self._at = now

    def ready_at(self, now: float) -> float:
        """When a token is there."""
        missing = 1.0 - self._filled(now)
        return now if missing <= 1e-9 else now + missing / self.rate

    def take(self, now: float) -> None:
        self._tokens = self._filled(now) - 1.0
        self._at = now

    def _filled(self, now: float) -> float:
        return min(self.size, self._tokens + (now - self._at) * self.rate)


class Breaker:
    """Stops asking a host that keeps failing: closed, open for a pause, half open for a single try, given up.

    "Release It!" (Nygard, 2007), the Circuit Breaker pattern.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._openings = 0
        self.open_until = 0.0
        self.half_open = False

    @property
    def given_up(self) -> bool:
        return self._openings > self._patience.openings

    def succeeded(self) -> None:
        self._failures = self._openings = 0
        self.half_open = False

    def failed(self, now: float) -> None:
        self._failures += 1
        if now < self.open_until:
            return
        if self.half_open or self._failures >= self._patience.failures:
            self.open_until = now + self._patience.pause_s * 4.0**self._openings
            self._openings += 1
            self.half_open = True


@dataclass
class Host(Generic[Job]):
    """A host with its queue. `width` is 1 until its robots.txt is known."""

    name: str
    pace: Pace
    breaker: Breaker
    queue: deque[Job] = field(default_factory=deque)
    width: int = 1
    known: bool = False
    running: int = 0
    offered: bool = False
    not_before: float = 0.0
    bucket: TokenBucket | None = None

    def open(self, now: float, crawl_delay: float | None) -> None:
        """Its rules are known: from now on it is asked at its own pace, or at that of its crawl delay in seconds."""
        if not self.known:
            self.known = True
            self.width = self.pace.width
            self.bucket = TokenBucket(self.pace.rate, float(self.width), now) if self.pace.rate else None
        if crawl_delay and (self.bucket is None or self.bucket.rate > 1.0 / crawl_delay):
            self.width = 1
            self.bucket = TokenBucket(1.0 / crawl_delay, 1.0, now)
            self.bucket.take(now)

    def ready_at(self, now: float) -> float:
        """When the next request may start, as far as time decides."""
        at = max(now, self.not_before, self.breaker.open_until)
        return self.bucket.ready_at(at) if self.bucket else at

    def has_room(self) -> bool:
        return self.running < (1 if self.breaker.half_open else self.width)

    def slow_down(self, now: float, wait_s: float) -> None:
        """It asked for fewer requests: leave it alone for a while, and then ask half as many at a time."""
        self.not_before = max(self.not_before, now + wait_s)
        self.width = max(1, self.width // 2)
