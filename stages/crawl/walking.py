"""Walking web pages for pictures: breadth first from one page or from a sitemap, within the limits of its source.

What each page gave is noted in a journal, so that a walk which is broken off goes on without asking for it again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stages.base import StageError
from stages.crawl.ledger import host_of
from stages.crawl.pages import read_page, same_domain, same_site
from stages.crawl.reasons import Reason, is_transient
from stages.crawl.sitemaps import read_sitemap
from stages.crawl.sniffing import image_mime
from stages.crawl.sources import PageSource, SitemapSource
from stages.crawl.targets import Target

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jxl", ".heic")
_AT_ONCE = 16

OnPage = Callable[[int], None]


class Answer(Protocol):
    """What fetching a page gives (see `stages.crawl.fetching.Fetched`)."""

    final_url: str
    body: bytes
    reason: str | None
    http_status: int | None
    mime: str | None


class PageFetcher(Protocol):
    async def any(self, url: str) -> Any:
        """An `Answer`."""


@dataclass
class Visit:
    """What one page or sitemap gave. outcome: of the page itself; None where it is a picture.

    images: url, caption, label, licence, page_url of each.
    """

    final_url: str
    outcome: str | None = None
    http_status: int | None = None
    images: list[tuple[str, str | None, str | None, str | None, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


class Journal:
    """Visits by URL, appended to a file as they are made. A line that a crash cut off is left out."""

    def __init__(self, path: Path) -> None:
        self._visits: dict[str, Visit] = {}
        kept = b""
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    url, visit = json.loads(line)
                    self._visits[url] = Visit(**visit)
                    kept += line
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kept)
        self._path = path

    def get(self, url: str) -> Visit | None:
        return self._visits.get(url)

    def add(self, url: str, visit: Visit) -> None:
        reason = (visit.outcome or "").partition(":")[2]
        if not is_transient(reason):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([url, asdict(visit)]) + "\n")


class Walk:
    """The order of what it finds depends on the site alone."""

    def __init__(
        self, source: PageSource | SitemapSource, name: str, fetcher: PageFetcher, journal: Path, on_page: OnPage
    ) -> None:
        self._source = source
        self._name = name
        self._fetcher = fetcher
        self._journal = Journal(journal)
        self._on_page = on_page
        self._site = self._first = source.pages if isinstance(source, PageSource) else source.sitemap
        self._seen = {self._first}
        self.read = 0
        self._pages: Counter[str | None] = Counter()
        self._images: Counter[str | None] = Counter()

    async def targets(self) -> AsyncIterator[Target]:
        """Everything found, as it is found. Raises StageError where the first page or sitemap cannot be read."""
        level = [self._first]
        if isinstance(self._source, SitemapSource):
            level = []
            async for target in self._sitemaps(level):
                yield target
        for depth in range(self._source.depth + 1):
            links: list[str] = []
            while level and self.read < self._source.max_pages:
                batch, level = self._next_batch(level)
                for url, visit in await self._visit(batch, self._page):
                    if url == self._first:
                        self._site = visit.final_url
                    for target in self._targets_of(url, visit):
                        yield target
                    links += self._new_links(visit) if depth < self._source.depth else []
            level = links

    async def _sitemaps(self, pages: list[str]) -> AsyncIterator[Target]:
        assert isinstance(self._source, SitemapSource)
        waiting, read = [self._first], 0
        while waiting and read < self._source.max_sitemaps:
            batch = waiting[: min(_AT_ONCE, self._source.max_sitemaps - read)]
            waiting = waiting[len(batch) :]
            read += len(batch)
            for url, visit in await self._visit(batch, self._sitemap):
                for target in self._targets_of(url, visit):
                    yield target
                waiting += [link for link in visit.sitemaps if self._is_new(link)]
                pages += self._new_links(visit)

    def _next_batch(self, level: list[str]) -> tuple[list[str], list[str]]:
        """The next pages that the limits allow, and those after them."""
        batch: list[str] = []
        room = min(_AT_ONCE, self._source.max_pages - self.read)
        for position, url in enumerate(level):
            if len(batch) == room:
                return batch, level[position:]
            host, most = host_of(url), self._source.max_pages_per_host
            if most is None or self._pages[host] < most:
                self._pages[host] += 1
                batch.append(url)
        return batch, []

    async def _visit(self, urls: Sequence[str], read: Callable[[str, Answer], Visit]) -> list[tuple[str, Visit]]:
        async def one(url: str) -> Visit:
            visit = self._journal.get(url)
            if visit is None:
                visit = read(url, await self._fetcher.any(url))
                self._journal.add(url, visit)
            return visit

        visits = await asyncio.gather(*(one(url) for url in urls))
        self.read += len(urls) if read == self._page else 0
        self._on_page(self.read)
        return list(zip(urls, visits, strict=True))

    def _page(self, url: str, answer: Answer) -> Visit:
        visit = Visit(answer.final_url, http_status=answer.http_status)
        if answer.reason is not None:
            if url == self._first:
                raise StageError(_first_page_failed(url, answer.reason))
            visit.outcome = f"{_status_of(answer.reason)}:{answer.reason}"
        elif image_mime(answer.body) is not None:
            visit.images = [(url, None, None, None, url)]
        elif "html" not in (answer.mime or "") and answer.body.lstrip()[:1] != b"<":
            visit.outcome = f"skipped:{Reason.NOT_HTML}"
        else:
            page = read_page(answer.body, answer.final_url, self._source.label_attribute)
            visit.outcome = f"skipped:{Reason.PAGE}"
            visit.links = page.links
            visit.images = [(image.url, image.caption, image.label, page.licence, url) for image in page.images]
        return visit

    def _sitemap(self, url: str, answer: Answer) -> Visit:
        visit = Visit(answer.final_url, http_status=answer.http_status)
        reason: str | None = answer.reason
        if reason is None:
            try:
                found = read_sitemap(answer.body, answer.final_url)
            except ValueError:
                reason = Reason.NOT_SITEMAP
            else:
                visit.links, visit.sitemaps = found.pages, found.sitemaps
                visit.images = [(one.url, one.caption, None, one.licence, one.page_url) for one in found.images]
        if reason is not None and url == self._first:
            raise StageError(_first_page_failed(url, reason))
        visit.outcome = f"{_status_of(reason)}:{reason}" if reason else f"skipped:{Reason.PAGE}"
        return visit

    def _targets_of(self, url: str, visit: Visit) -> Iterator[Target]:
        common: dict[str, Any] = {"source": self._name, "source_weight": self._source.weight}
        if visit.outcome is not None:
            yield Target(url=url, outcome=visit.outcome, http_status=visit.http_status, **common)
        linked = [
            (link, None, None, None, url) for link in visit.links if _names_picture(link) and self._follows(link)
        ]
        for address, caption, label, licence, page_url in [*visit.images, *linked]:
            host, most = host_of(address), self._source.max_images_per_host
            self._images[host] += 1
            if most is None or self._images[host] <= most:
                yield Target(
                    url=address,
                    page_url=page_url if page_url != address else None,
                    caption=caption,
                    label=label,
                    licence=licence or self._source.licence,
                    **common,
                )

    def _new_links(self, visit: Visit) -> list[str]:
        """Links to further pages."""
        follow = (link for link in visit.links if not _names_picture(link) and self._follows(link))
        return [link for link in follow if self._is_new(link)]

    def _is_new(self, link: str) -> bool:
        new = link not in self._seen
        self._seen.add(link)
        return new

    def _follows(self, link: str) -> bool:
        if self._source.follow == "site":
            return same_site(link, self._site)
        return self._source.follow == "any" or same_domain(link, self._site)


def _names_picture(link: str) -> bool:
    return link.lower().endswith(_IMAGE_SUFFIXES)


def _status_of(reason: str) -> str:
    return "skipped" if reason in (Reason.OPTED_OUT, Reason.ROBOTS_DISALLOWED) else "failed"


def _first_page_failed(url: str, reason: str) -> str:
    if reason == Reason.PRIVATE_ADDRESS:
        return (
            f"crawl.sources: {url} leads to a private address, which is refused; "
            "if you mean that host, name it in crawl.allow_hosts"
        )
    return f"crawl.sources: {url} cannot be read ({reason}); check the address and try again"
