"""From sources to targets: list folders, read URL lists, walk the pages of a site."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stages.base import StageError
from stages.crawl import demo_site
from stages.crawl.fetching import Fetched, Fetcher
from stages.crawl.folders import folder_targets
from stages.crawl.pages import Page, read_page, same_site
from stages.crawl.sniffing import image_mime
from stages.crawl.sources import DemoSource, FolderSource, PageSource, UrlListSource
from stages.crawl.targets import Target, unique
from stages.crawl.url_lists import list_targets

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jxl", ".heic")
_AT_ONCE = 16

OnPage = Callable[[int], None]


async def discover(sources: Mapping[str, Any], fetcher: Fetcher, on_page: OnPage) -> list[Target]:
    """All targets of all sources, in the order of the spec, each URL once a source.

    on_page: called with the number of pages read so far.
    Raises StageError where a source is missing or its first page cannot be read.
    """
    targets: list[Target] = []
    for name, source in sources.items():
        if isinstance(source, FolderSource):
            targets.extend(folder_targets(source, name))
        elif isinstance(source, UrlListSource):
            targets.extend(list_targets(source, name))
        else:
            targets.extend(await _Walk(_pages(source), name, fetcher, on_page).targets())
    return unique(targets)


def _pages(source: PageSource | DemoSource) -> PageSource:
    if isinstance(source, PageSource):
        return source
    return PageSource(pages=demo_site.START_URL, label_attribute=demo_site.LABEL_ATTRIBUTE)


class _Walk:
    """Breadth first over the pages of one site; the order of what it finds depends on the site alone."""

    def __init__(self, source: PageSource, name: str, fetcher: Fetcher, on_page: OnPage) -> None:
        self._source = source
        self._name = name
        self._fetcher = fetcher
        self._on_page = on_page
        self._found: list[Target] = []
        self._seen = {source.pages}
        self._site = source.pages
        self._read = 0

    async def targets(self) -> list[Target]:
        level = [self._source.pages]
        for depth in range(self._source.depth + 1):
            links: list[str] = []
            while level and self._read < self._source.max_pages:
                batch = level[: min(_AT_ONCE, self._source.max_pages - self._read)]
                level = level[len(batch) :]
                links.extend(await self._read_batch(batch))
            level = [] if depth == self._source.depth else links
        return self._found

    async def _read_batch(self, urls: Sequence[str]) -> list[str]:
        fetched = await asyncio.gather(*(self._fetcher.any(url) for url in urls))
        self._read += len(urls)
        self._on_page(self._read)
        links: list[str] = []
        for url, answer in zip(urls, fetched, strict=True):
            links.extend(self._take(url, answer))
        return links

    def _take(self, url: str, answer: Fetched) -> list[str]:
        """Note what a page holds; gives its links to further pages of the site."""
        if answer.reason is not None:
            if url == self._source.pages:
                raise StageError(_first_page_failed(url, answer))
            self._note(url, f"failed:{answer.reason}", answer)
            return []
        if url == self._source.pages:
            self._site = answer.final_url
        if image_mime(answer.body) is not None:
            self._found.append(Target(source=self._name, url=url))
            return []
        if "html" not in (answer.mime or "") and answer.body.lstrip()[:1] != b"<":
            self._note(url, "skipped:not_html", answer)
            return []
        self._note(url, "skipped:page", answer)
        page = read_page(answer.body, answer.final_url, self._source.label_attribute)
        self._found.extend(
            Target(source=self._name, url=image.url, page_url=url, caption=image.caption, label=image.label)
            for image in page.images
        )
        return self._new_links(url, page)

    def _new_links(self, url: str, page: Page) -> list[str]:
        links = []
        for link in page.links:
            if link in self._seen or not same_site(link, self._site):
                continue
            self._seen.add(link)
            if link.lower().endswith(_IMAGE_SUFFIXES):
                self._found.append(Target(source=self._name, url=link, page_url=url))
            else:
                links.append(link)
        return links

    def _note(self, url: str, outcome: str, answer: Fetched) -> None:
        self._found.append(Target(source=self._name, url=url, outcome=outcome, http_status=answer.http_status))


def _first_page_failed(url: str, answer: Fetched) -> str:
    if answer.reason == "private_address":
        return (
            f"crawl.sources: {url} leads to a private address, which is refused; "
            "if you mean that host, name it in crawl.allow_hosts"
        )
    return f"crawl.sources: the first page {url} cannot be read ({answer.reason}); check the address and try again"
