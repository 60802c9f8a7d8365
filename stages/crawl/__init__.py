"""Crawl: fetch pictures from folders, URL lists and web pages into one table, one row for whatever was tried."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from stages.base import EXECUTION, POOL, Stage, StageContext, StageParams, StageResult
from stages.crawl.sources import DemoSource, FolderSource, Source, UrlListSource, named


class CrawlParams(StageParams):
    """Where to fetch from, and within which bounds."""

    sources: list[Source] = Field(
        ...,
        min_length=1,
        description="Folders, URL lists (.txt .csv .tsv .jsonl), http(s) pages, demo:openmoji; strings or mappings.",
        json_schema_extra=POOL,
    )
    allow_hosts: list[str] = Field([], description="Hosts that may have private addresses; all others are refused.")
    timeout_s: float = Field(10.0, gt=0, le=600, description="Longest time for one response.")
    max_bytes: int = Field(20_000_000, ge=1000, description="Longest file or response in bytes.")
    user_agent: str = Field(
        "curatrain (image crawler; set crawl.user_agent to name yourself and a contact)",
        min_length=1,
        description="What the crawler calls itself.",
    )
    refresh: str = Field("", description="Any new value fetches everything again.")
    max_failed_share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="The stage fails if a larger share of fetches fails.",
        json_schema_extra=EXECUTION,
    )
    concurrency: int = Field(32, ge=1, le=512, description="Fetches at the same time.", json_schema_extra=EXECUTION)
    retries: int = Field(1, ge=0, le=10, description="Further tries where it may help.", json_schema_extra=EXECUTION)
    part_rows: int = Field(512, ge=1, description="Rows that a crash may cost.", json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _sources_can_be_told_apart(self) -> CrawlParams:
        named(self.sources)
        if sum(isinstance(source, DemoSource) for source in self.sources) > 1:
            raise ValueError("demo:openmoji can be a source only once")
        return self

    def named_sources(self) -> dict[str, Any]:
        """Sources by their unique names, in the order of the spec."""
        return named(self.sources)


class Crawl(Stage[CrawlParams]):
    """Fetch images; what comes depends on the outside world, so the artifact's digest is its key."""

    type = "crawl"
    Params = CrawlParams
    output = "fetches"
    reproducible = False

    def externals(self) -> dict[str, str]:
        digests = {}
        for name, source in self.params.named_sources().items():
            if isinstance(source, FolderSource):
                from stages.crawl.folders import listing_digest

                digests[name] = listing_digest(source.folder)
            elif isinstance(source, UrlListSource):
                from stages.crawl.url_lists import list_digest

                digests[name] = list_digest(source.urls)
            elif isinstance(source, DemoSource):
                from stages.crawl.demo_catalogue import demo_version

                digests[name] = demo_version()
        return digests

    def run(self, ctx: StageContext[CrawlParams]) -> StageResult:
        from stages.crawl.crawling import crawl

        return crawl(ctx)
