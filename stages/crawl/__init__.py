"""Crawl: fetch pictures from folders, URL lists and web pages into one table, one row for whatever was tried."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from stages.base import EXECUTION, POOL, Stage, StageContext, StageParams, StageResult
from stages.crawl.sources import DemoSource, Source, described, named


class CrawlParams(StageParams):
    """Where to fetch from, and within which bounds."""

    sources: list[Source] = Field(
        ...,
        min_length=1,
        description="Folders, tables of URLs or pictures, tar files, http(s) pages, sitemaps, s3:// and the like, "
        "demo:openmoji; strings, or mappings with path or url, type, name, weight, licence, columns.",
        json_schema_extra=POOL,
    )
    allow_hosts: list[str] = Field(
        [],
        description="Hosts, addresses or networks that may be private; all others are refused.",
        json_schema_extra=POOL,
    )
    timeout_s: float = Field(10.0, gt=0, le=600, description="Longest time for one response.", json_schema_extra=POOL)
    read_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest silence within a response.", json_schema_extra=POOL
    )
    max_bytes: int = Field(20_000_000, ge=1000, description="Longest file or response in bytes.")
    user_agent: str = Field(
        "curatrain",
        pattern=r"^[A-Za-z_-]+([/ ][\x20-\x7e]*)?$",
        description="What the crawler calls itself; its first word is its name in robots.txt.",
        json_schema_extra=POOL,
    )
    contact: str = Field(
        "",
        pattern=r"^[\x20-\x7e]*$",
        description="Address of a page or mailbox where site owners reach you; sent with every request.",
    )
    robots: bool = Field(True, description="Obey robots.txt (RFC 9309), and its crawl delay.")
    opt_outs: list[str] = Field(
        ["noai", "noimageai", "noml", "noindex"],
        description="Words of X-Robots-Tag headers and robots meta tags that keep a picture, or a page's, out.",
    )
    tdm_reservations: bool = Field(True, description="Heed TDM reservations: header, meta tag, tdmrep.json.")
    resize: int = Field(
        0, ge=0, le=8192, description="Keep larger pictures as copies whose shorter side has so many pixels; 0: as is."
    )
    resize_quality: int = Field(90, ge=1, le=100, description="JPEG quality of such copies.")
    refresh: str = Field(
        "",
        description="Any new value asks for everything again; what a server calls unchanged keeps its bytes.",
        json_schema_extra=POOL,
    )
    retry: tuple[str, ...] = Field(
        (),
        description="Earlier failures to try again: transient, http_5xx, or reason codes; all others are kept.",
        json_schema_extra=POOL,
    )
    takedown: str | list[str] = Field(
        [],
        description="URLs, domains and SHA-256s that must not be used: a list, or a file with one a line.",
        json_schema_extra=POOL,
    )
    max_failed_share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="The stage fails if a larger share of fetches fails.",
        json_schema_extra=EXECUTION,
    )
    concurrency: int = Field(64, ge=1, le=1024, description="Fetches at the same time.", json_schema_extra=EXECUTION)
    host_concurrency: int = Field(
        8,
        ge=1,
        le=256,
        description="Fetches from one host at the same time; hosts in allow_hosts are not held to it.",
        json_schema_extra=EXECUTION,
    )
    host_rate: float = Field(
        10.0,
        ge=0,
        le=10_000,
        description="Fetches from one host a second, 0 for no limit; hosts in allow_hosts are not held to it.",
        json_schema_extra=EXECUTION,
    )
    retries: int = Field(2, ge=0, le=10, description="Further tries where it may help.", json_schema_extra=EXECUTION)
    workers: int = Field(
        1, ge=1, le=256, description="Workers to share the hosts out to, on Ray.", json_schema_extra=EXECUTION
    )
    part_rows: int = Field(512, ge=1, description="Rows that a crash may cost.", json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _sources_can_be_told_apart(self) -> CrawlParams:
        named(self.sources)
        if sum(isinstance(source, DemoSource) for source in self.sources) > 1:
            raise ValueError("demo:openmoji can be a source only once")
        return self

    @field_validator("retry")
    @classmethod
    def _classes_of_failures(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from stages.crawl.reasons import check_class

        return tuple(sorted({check_class(name) for name in value}))

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
        from stages.crawl.discovery import source_digest
        from stages.takedowns import takedown_digest

        found = {name: source_digest(source) for name, source in self.params.named_sources().items()}
        digests = {name: digest for name, digest in found.items() if digest is not None}
        return {**digests, **takedown_digest(self.params.takedown, self.type)}

    def remarks(self) -> list[str]:
        return [described(name, source) for name, source in self.params.named_sources().items()]

    def run(self, ctx: StageContext[CrawlParams]) -> StageResult:
        from stages.crawl.crawling import crawl

        return crawl(ctx)
