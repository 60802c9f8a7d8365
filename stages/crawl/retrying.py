"""When another try is worth while, and how long to wait for it."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from stages.crawl.reasons import Reason

NETWORK = frozenset({Reason.TIMEOUT, Reason.DNS, Reason.CONNECT, Reason.INCOMPLETE})
"""Failures that our own connection to the network may be the cause of."""

_HOST_FAULTS = NETWORK | {Reason.TLS, Reason.ROBOTS_UNREACHABLE}
_BUSY = frozenset({429, 503})


def is_host_fault(reason: str | None) -> bool:
    """Whether a failure speaks against the host and not against the one URL."""
    return reason is not None and (reason in _HOST_FAULTS or reason.startswith("http_5"))


def is_busy(http_status: int | None) -> bool:
    """Whether the host asks for fewer requests."""
    return http_status in _BUSY


def backoff(key: str, attempt: int, base_s: float, longest_s: float) -> float:
    """Seconds to wait after failed attempt `attempt` (from 1): exponential with full jitter.

    The jitter is a function of the key and the attempt, so that it is the same in every run.
    "Exponential Backoff And Jitter" (Brooker, AWS Architecture Blog, 2015).
    """
    ceiling = min(longest_s, base_s * 2.0 ** min(attempt - 1, 30))
    return random.Random(f"{attempt}:{key}").uniform(0.0, ceiling)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, section 10.2.3); None if neither."""
    text = (value or "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
