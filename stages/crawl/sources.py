"""What a crawl may read from, as the user writes it: a folder, a list of URLs, web pages, the demo site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")
_MEANS = {
    "folder": "a folder of pictures",
    "urls": "a file that lists URLs",
    "pages": "web pages to read <img> from",
    "demo": "a set that comes with a package",
}


def _absolute(path: str) -> str:
    """Absolute and without `~`, so that another process in another folder means the same place."""
    return str(Path(path).expanduser().absolute())


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, min_length=1, description="Name in tables and reports; derived if not given.")

    def default_name(self) -> str:
        raise NotImplementedError


class FolderSource(_Source):
    """Every picture below a folder, known by its content and not by its name."""

    folder: str = Field(..., min_length=1, description="Folder; ~ is the home folder.")
    label: Literal["folder", "none"] = Field("folder", description="Take the label from a folder's name, or none.")
    label_depth: int | None = Field(
        None, ge=1, description="Which folder names the label, counted from the source; default: the innermost."
    )
    caption: Literal["sidecar", "none"] = Field(
        "sidecar", description="Take the caption from the first line of the .txt file of the same name, or none."
    )

    _expand = field_validator("folder")(_absolute)

    def default_name(self) -> str:
        return Path(self.folder).name or "folder"


class UrlListSource(_Source):
    """A list of image URLs: one per line (.txt), or rows of columns (.csv, .tsv, .jsonl)."""

    urls: str = Field(..., min_length=1, description="File of URLs: .txt, .csv, .tsv or .jsonl.")
    url_column: str = Field("url", description="Column that holds the URL.")
    caption_column: str | None = Field("caption", description="Column that holds the caption, if there is one.")
    label_column: str | None = Field("label", description="Column that holds the label, if there is one.")
    allow_hosts: tuple[str, ...] = Field((), description="Hosts that may have private addresses.")

    @field_validator("urls")
    @classmethod
    def _known_suffix(cls, value: str) -> str:
        if not value.lower().endswith(LIST_SUFFIXES):
            raise ValueError(f"'{value}' is not a list of URLs that can be read; write {', '.join(LIST_SUFFIXES)}")
        return _absolute(value)

    def default_name(self) -> str:
        return Path(self.urls).stem


class PageSource(_Source):
    """Web pages: the pictures that they show, and the pages of the same site that they link to."""

    pages: str = Field(..., description="http(s) address of the first page.")
    depth: int = Field(2, ge=0, le=64, description="How many links away from the first page to go.")
    max_pages: int = Field(1000, ge=1, description="Read at most so many pages.")
    label_attribute: str | None = Field(
        None, description="Attribute of <img>, or of an element around it, that holds the label: data-category."
    )
    allow_hosts: tuple[str, ...] = Field((), description="Hosts that may have private addresses.")

    @field_validator("pages")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
            raise ValueError(f"'{value}' is not an http:// or https:// address")
        return value

    def default_name(self) -> str:
        return urlsplit(self.pages).hostname or "pages"


class DemoSource(_Source):
    """A set of pictures that comes with a package, served on this machine as a small website."""

    demo: Literal["openmoji"] = Field(..., description="Name of the set.")
    limit: int | None = Field(None, ge=10, description="Only so many drawings, spread over the set.")

    def default_name(self) -> str:
        return self.demo


def _kind(value: Any) -> str | None:
    if isinstance(value, _Source):
        return next((kind for kind in _MEANS if hasattr(value, kind)), None)
    if isinstance(value, dict):
        kinds = [kind for kind in _MEANS if kind in value]
        return kinds[0] if len(kinds) == 1 else None
    return None


def _from_text(value: Any) -> Any:
    """A source written as a plain string, by what it looks like."""
    if not isinstance(value, str):
        return value
    if value.startswith("demo:"):
        return {"demo": value.removeprefix("demo:")}
    if re.match(r"(?i)https?://", value):
        return {"pages": value}
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise ValueError(f"'{value}': only http://, https://, folders, URL lists and demo:openmoji can be crawled")
    if value.lower().endswith(LIST_SUFFIXES) and not Path(value).expanduser().is_dir():
        return {"urls": value}
    return {"folder": value}


Source = Annotated[
    Annotated[FolderSource, Tag("folder")]
    | Annotated[UrlListSource, Tag("urls")]
    | Annotated[PageSource, Tag("pages")]
    | Annotated[DemoSource, Tag("demo")],
    Discriminator(
        _kind,
        custom_error_type="source",
        custom_error_message="a source is a string, or a mapping with exactly one of: "
        + "; ".join(f"{kind} ({meaning})" for kind, meaning in _MEANS.items()),
    ),
    BeforeValidator(_from_text),
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


def _free_name(name: str, taken: set[str]) -> str:
    number = 2
    candidate = name
    while candidate in taken:
        candidate = f"{name}-{number}"
        number += 1
    return candidate
