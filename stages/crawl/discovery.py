"""From sources to targets: list folders, read tables and tar files, walk the pages of a site."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from stages.base import StageContext
from stages.crawl import demo_catalogue, demo_site
from stages.crawl.file_names import is_remote
from stages.crawl.folders import folder_targets, listing_digest
from stages.crawl.remote_folders import remote_digest, remote_targets
from stages.crawl.sources import DemoSource, FolderSource, PageSource, SitemapSource, UrlListSource, WebDatasetSource
from stages.crawl.targets import Target
from stages.crawl.url_lists import list_digest, list_targets
from stages.crawl.walking import PageFetcher, Walk
from stages.crawl.webdatasets import dataset_digest, dataset_targets

if TYPE_CHECKING:
    from stages.crawl import CrawlParams


def source_digest(source: Any) -> str | None:
    """Digest of what a source holds now, where that can be told without the network of the crawl; else None.

    Raises StageError where the source is missing or unreadable.
    """
    if isinstance(source, FolderSource):
        folders = [source.folder, *([source.masks] if source.masks else [])]
        return remote_digest(source) if is_remote(source.folder) else listing_digest(*folders)
    if isinstance(source, UrlListSource):
        return list_digest(source)
    if isinstance(source, WebDatasetSource):
        return dataset_digest(source)
    return demo_catalogue.demo_version() if isinstance(source, DemoSource) else None


async def discover(ctx: StageContext[CrawlParams], fetcher: PageFetcher) -> AsyncIterator[Target]:
    """All targets of all sources, in the order of the spec. How each source was understood is told as a note.

    Raises StageError where a source is missing or its first page cannot be read.
    """
    pages = 0

    def on_page(number: int) -> None:
        ctx.progress(pages + number, None, "pages")

    for position, (name, source) in enumerate(ctx.params.named_sources().items()):
        listed = _listed(source, name, ctx.note)
        if listed is not None:
            for count, target in enumerate(listed):
                if count % 1000 == 0:
                    ctx.check_cancelled()
                yield target
            continue
        site = source if not isinstance(source, DemoSource) else _demo_pages(source)
        ctx.note(f"{name}: {'sitemap' if isinstance(site, SitemapSource) else 'web pages'} from {_address(site)}")
        walk = Walk(site, name, fetcher, ctx.work / "pages" / f"{position}.jsonl", on_page)
        async for target in walk.targets():
            yield target
        pages += walk.read


def _listed(source: Any, name: str, say: Callable[[str], None]) -> Iterator[Target] | None:
    if isinstance(source, FolderSource):
        say(f"{name}: folder {source.folder}")
        return remote_targets(source, name) if is_remote(source.folder) else folder_targets(source, name)
    if isinstance(source, UrlListSource):
        return list_targets(source, name, say)
    if isinstance(source, WebDatasetSource):
        return dataset_targets(source, name, say)
    return None


def _demo_pages(source: DemoSource) -> PageSource:
    return PageSource(
        pages=demo_site.START_URL,
        label_attribute=demo_site.LABEL_ATTRIBUTE,
        weight=source.weight,
        licence=source.licence or "CC BY-SA 4.0",
    )


def _address(source: PageSource | SitemapSource) -> str:
    return source.pages if isinstance(source, PageSource) else source.sitemap
