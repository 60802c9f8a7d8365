"""What a crawl may read from, as the user writes it: folders, lists, data sets, web pages, sitemaps, the demo site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from stages.crawl.file_names import (
    BINARY_TABLES,
    LIST_SUFFIXES,
    absolute,
    bare_suffix,
    is_list,
    is_remote,
    is_tar,
    known_place,
)

_MEANS = {
    "folder": "a folder of pictures",
    "urls": "a table of URLs, or of pictures in it",
    "webdataset": "tar files of samples",
    "pages": "web pages to read pictures and links from",
    "sitemap": "a sitemap of pages and pictures",
    "demo": "a set that comes with a package",
}


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, min_length=1, description="Name in tables and reports; derived if not given.")
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="Weight of its images where sources are mixed.")
    licence: str | None = Field(
        None, min_length=1, description="Licence of its pictures, where neither list nor page names another."
    )

    def default_name(self) -> str:
        raise NotImplementedError


class _FileSource(_Source):
    storage_options: dict[str, str | int | float | bool] = Field(
        {}, description="Options of the file system behind s3:// and the like, such as anon; no secrets."
    )


class FolderSource(_FileSource):
    """Every picture below a folder, known by its content and not by its name."""

    folder: str = Field(..., min_length=1, description="Folder; ~ is the home folder; s3:// and the like can be read.")
    label: Literal["folder", "none"] = Field("folder", description="Take the label from a folder's name, or none.")
    label_depth: int | None = Field(
        None, ge=1, description="Which folder names the label, counted from the source; default: the innermost."
    )
    caption: Literal["sidecar", "none"] = Field(
        "sidecar", description="Take the caption from the first line of the .txt file of the same name, or none."
    )
    masks: str | None = Field(
        None,
        min_length=1,
        description="Folder of masks for segmentation: for each picture a PNG of class numbers of the same name, 255 "
        "where no pixel counts; both folders have to be on this machine.",
    )

    _expand = field_validator("folder")(known_place)

    @field_validator("masks")
    @classmethod
    def _local_masks(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (is_remote(value) or is_remote(info.data.get("folder", ""))):
            raise ValueError("masks are read from folders of this machine only: copy pictures and masks to one")
        return None if value is None else absolute(value)

    def default_name(self) -> str:
        return Path(self.folder).name or "folder"


class Columns(BaseModel):
    """Which columns of a table hold what; those not named are found by their usual names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(None, description="Column of the URL.")
    image: str | None = Field(None, description="Column of the encoded picture: bytes, or {bytes, path}.")
    caption: str | None = Field(None, description="Column of the caption.")
    label: str | None = Field(None, description="Column of the label.")
    mask: str | None = Field(None, description="Column of masks for segmentation: bytes of a PNG of class numbers.")
    licence: str | None = Field(None, description="Column of the licence.")
    metadata: tuple[str, ...] | Literal["all", "none"] = Field(
        "all", description="Further columns to keep: all, none, or their names."
    )


class UrlListSource(_FileSource):
    """Tables of image URLs, or of pictures themselves: one URL a line, or rows of columns."""

    urls: str = Field(
        ...,
        min_length=1,
        description="File, or pattern of files: .txt .csv .tsv .json .jsonl .parquet .arrow, also .gz.",
    )
    columns: Columns = Field(Columns(), description="Which columns hold what.")
    allow_hosts: tuple[str, ...] = Field((), description="Hosts that may have private addresses.")

    @field_validator("urls")
    @classmethod
    def _known_suffix(cls, value: str) -> str:
        if not is_list(value) and not value.endswith("/"):
            raise ValueError(
                f"'{value}' is not a table that can be read; write {', '.join(LIST_SUFFIXES)} (also with .gz .bz2 .xz "
                ".zst), or a folder of such files with / at its end"
            )
        return known_place(value) + ("/" if value.endswith("/") else "")

    def default_name(self) -> str:
        return Path(self.urls).name.partition(".")[0].strip("*?[]{}-_") or "urls"


class WebDatasetSource(_FileSource):
    """Tar files in which the files of one sample stand together under one name: 000.jpg, 000.txt, 000.json."""

    webdataset: str = Field(
        ..., min_length=1, description="Tar file, folder of them, or pattern: data/{000..099}.tar."
    )

    _expand = field_validator("webdataset")(known_place)

    def default_name(self) -> str:
        return Path(self.webdataset).name.partition(".")[0].strip("*?[]{}-_") or "webdataset"


class _WebSource(_Source):
    follow: Literal["site", "domain", "any"] = Field(
        "site", description="Read pages of the same host and port, of its subdomains too, or of any host."
    )
    max_pages: int = Field(1000, ge=1, description="Read at most so many pages.")
    max_pages_per_host: int | None = Field(None, ge=1, description="Read at most so many pages of one host.")
    max_images_per_host: int | None = Field(None, ge=1, description="Take at most so many pictures from one host.")
    label_attribute: str | None = Field(
        None, description="Attribute of <img>, or of an element around it, that holds the label: data-category."
    )
    allow_hosts: tuple[str, ...] = Field((), description="Hosts that may have private addresses.")


class PageSource(_WebSource):
    """Web pages: the pictures that they show, and the pages that they link to."""

    pages: str = Field(..., description="http(s) address of the first page.")
    depth: int = Field(2, ge=0, le=64, description="How many links away from the first page to go.")

    @field_validator("pages")
    @classmethod
    def _web_address(cls, value: str) -> str:
        return _web_address(value)

    def default_name(self) -> str:
        return urlsplit(self.pages).hostname or "pages"


class SitemapSource(_WebSource):
    """A site by its sitemap (sitemaps.org): the pictures that it lists, and those of the pages that it lists."""

    sitemap: str = Field(..., description="http(s) address of a sitemap or sitemap index, gzipped or not.")
    depth: int = Field(0, ge=0, le=64, description="How many links away from the listed pages to go.")
    max_sitemaps: int = Field(1000, ge=1, description="Read at most so many files of a sitemap index.")

    @field_validator("sitemap")
    @classmethod
    def _web_address(cls, value: str) -> str:
        return _web_address(value)

    def default_name(self) -> str:
        return urlsplit(self.sitemap).hostname or "sitemap"


class DemoSource(_Source):
    """A set of pictures that comes with a package, served on this machine as a small website."""

    demo: Literal["openmoji"] = Field(..., description="Name of the set.")
    limit: int | None = Field(None, ge=10, description="Only so many drawings, spread over the set.")

    def default_name(self) -> str:
        return self.demo


def _web_address(value: str) -> str:
    if urlsplit(value).scheme.lower() not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError(f"'{value}' is not an http:// or https:// address")
    return value


def _kind(value: Any) -> str | None:
    if isinstance(value, _Source):
        return next((kind for kind in _MEANS if hasattr(value, kind)), None)
    if isinstance(value, dict):
        kinds = [kind for kind in _MEANS if kind in value]
        return kinds[0] if len(kinds) == 1 else None
    return None


def _detected(value: Any) -> Any:
    """A source written as a plain string, or as a mapping with `path` or `url`, by what it looks like or `type`."""
    if isinstance(value, str):
        return {_looks_like(value): value.removeprefix("demo:") if value.startswith("demo:") else value}
    if isinstance(value, dict) and len({"path", "url"} & set(value)) == 1 and _kind(value) is None:
        rest = {name: item for name, item in value.items() if name not in ("path", "url", "type")}
        place = value.get("path", value.get("url"))
        kind = value.get("type") or (_looks_like(place) if isinstance(place, str) else None)
        if kind not in _MEANS:
            raise ValueError(f"'{kind}' is no type of source; write one of {', '.join(_MEANS)}, or leave it out")
        return {kind: place, **rest}
    return value


def _looks_like(place: str) -> str:
    if place.startswith("demo:"):
        return "demo"
    if re.match(r"(?i)https?://", place):
        name = urlsplit(place).path.lower().removesuffix(".gz")
        return "sitemap" if name.endswith(".xml") and "sitemap" in name else "pages"
    place = absolute(place)
    if not is_remote(place) and Path(place).is_dir():
        return _folder_looks_like(Path(place))
    if is_tar(place):
        return "webdataset"
    return "urls" if is_list(place) else "folder"


def _folder_looks_like(folder: Path) -> str:
    """A folder in which nothing stands but tar files, or binary tables and their notes, is a data set."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))[:1000]
    rest = [name for name in names if Path(name).suffix.lower() not in (".json", ".md", ".txt", ".crc")]
    if rest and all(is_tar(name) for name in rest):
        return "webdataset"
    return "urls" if rest and all(bare_suffix(name) in BINARY_TABLES for name in rest) else "folder"


def _with_slash(value: Any) -> Any:
    """A folder of tables keeps a slash at its end, which says that it is one."""
    if isinstance(value, dict) and isinstance(value.get("urls"), str) and not is_list(value["urls"]):
        return {**value, "urls": value["urls"].rstrip("/") + "/"}
    return value


def _from_user(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"(?i)(ftp|data|javascript):", value):
        raise ValueError(
            f"'{value}': http://, https://, folders, tables, tar files, file systems that fsspec knows and "
            "demo:openmoji can be crawled"
        )
    return _with_slash(_detected(value)) if isinstance(value, str) else _detected(value)


Source = Annotated[
    Annotated[FolderSource, Tag("folder")]
    | Annotated[UrlListSource, Tag("urls")]
    | Annotated[WebDatasetSource, Tag("webdataset")]
    | Annotated[PageSource, Tag("pages")]
    | Annotated[SitemapSource, Tag("sitemap")]
    | Annotated[DemoSource, Tag("demo")],
    Discriminator(
        _kind,
        custom_error_type="source",
        custom_error_message="a source is a string, or a mapping with `path` or `url`, or with exactly one of: "
        + "; ".join(f"{kind} ({meaning})" for kind, meaning in _MEANS.items()),
    ),
    BeforeValidator(_from_user),
]


def named(sources: Sequence[_Source]) -> dict[str, Any]:
    """Sources by name, in the order given; a derived name that is taken gets a number.

    Raises ValueError where two sources are given the same name.
    """
    given = [source.name for source in sources if source.name]
    for name in given:
        if given.count(name) > 1:
            raise ValueError(f"two sources are named '{name}'; give each its own name")
    taken = set(given)
    result = {}
    for source in sources:
        name = source.name or _free_name(source.default_name(), taken)
        taken.add(name)
        result[name] = source
    return result


def described(name: str, source: _Source) -> str:
    """One line on a source: its name, the type that was given or detected, where it stands, licence and weight."""
    kind = _kind(source) or ""
    parts = [f"{name}: {kind} ({_MEANS[kind]}) at {getattr(source, kind)}"]
    if source.licence:
        parts.append(f"licence {source.licence}")
    if "weight" in source.model_fields_set:
        parts.append(f"weight {source.weight:g}")
    return ", ".join(parts)


def _free_name(name: str, taken: set[str]) -> str:
    number = 2
    candidate = name
    while candidate in taken:
        candidate = f"{name}-{number}"
        number += 1
    return candidate
