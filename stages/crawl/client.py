"""The crawler's client as the parameters of the stage describe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stages.crawl.fetching import Conduct, Fetcher
from stages.crawl.hosts import Pace
from stages.crawl.network import Network

if TYPE_CHECKING:
    from stages.crawl import CrawlParams


def fetcher_of(params: CrawlParams, connect_to: Mapping[str, tuple[str, int]]) -> Fetcher:
    """A fetcher with the manners and bounds that the parameters give."""
    allowed = [*params.allow_hosts]
    for source in params.sources:
        allowed.extend(getattr(source, "allow_hosts", ()))
    network = Network(allowed, connect_to, timeout_s=params.timeout_s, read_timeout_s=params.read_timeout_s)
    return Fetcher(network, conduct_of(params))


def conduct_of(params: CrawlParams) -> Conduct:
    """The parameters that say how the crawler behaves."""
    return Conduct(
        user_agent=f"{params.user_agent} (+{params.contact})" if params.contact else params.user_agent,
        max_bytes=params.max_bytes,
        concurrency=params.concurrency,
        retries=params.retries,
        robots=params.robots,
        opt_outs=frozenset(params.opt_outs),
        tdm=params.tdm_reservations,
        pace=Pace(width=params.host_concurrency, rate=params.host_rate),
    )
