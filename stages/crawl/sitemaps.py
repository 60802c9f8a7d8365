"""Reading a sitemap (sitemaps.org protocol 0.9, with Google's image extension): pages, pictures, further sitemaps."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

MAX_BYTES = 50 * 1024 * 1024
"""Longest sitemap, uncompressed, that the protocol allows."""


@dataclass(frozen=True)
class SitemapImage:
    """A picture that a sitemap lists for a page."""

    url: str
    page_url: str
    caption: str | None
    licence: str | None


@dataclass
class Sitemap:
    """What a sitemap lists, in its order."""

    sitemaps: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    images: list[SitemapImage] = field(default_factory=list)


def read_sitemap(body: bytes, url: str) -> Sitemap:
    """Read a sitemap or sitemap index in XML, or a list of URLs in plain text, gzipped or not.

    Raises ValueError where it is none of these, declares a document type, or is too long.
    """
    text = _inflated(body) if body[:2] == b"\x1f\x8b" else body
    if not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = text.decode("utf-8-sig", "replace").split()
        return Sitemap(pages=[line for line in lines if _is_web(line)])
    if b"<!DOCTYPE" in text[:4096] or b"<!ENTITY" in text:
        raise ValueError("a sitemap with a document type is refused")
    found = Sitemap()
    try:
        for element in _entries(text):
            _take(element, url, found)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from None
    return found


def _inflated(body: bytes) -> bytes:
    try:
        text = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"no gzip: {error}") from None
    if len(text) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return text


def _entries(text: bytes) -> Iterator[ElementTree.Element]:
    """The children of the root, each freed after use. A page of HTML is no sitemap."""
    depth = 0
    root: ElementTree.Element | None = None
    for event, element in ElementTree.iterparse(io.BytesIO(text), events=("start", "end")):  # noqa: S314 - no DTD
        if event == "start":
            depth += 1
            if root is None:
                root = element
                if _name(element) not in ("urlset", "sitemapindex"):
                    raise ValueError(f"<{_name(element)}> is no sitemap")
            continue
        depth -= 1
        if depth == 1 and root is not None:
            yield element
            root.clear()


def _take(element: ElementTree.Element, url: str, found: Sitemap) -> None:
    place = _child(element, "loc", url)
    if place is None:
        return
    if _name(element) == "sitemap":
        found.sitemaps.append(place)
        return
    if _name(element) != "url":
        return
    found.pages.append(place)
    for child in element:
        address = _child(child, "loc", url) if _name(child) == "image" else None
        if address:
            caption = _text(child, "caption") or _text(child, "title")
            found.images.append(SitemapImage(address, place, caption, _text(child, "license")))


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _child(element: ElementTree.Element, name: str, base: str) -> str | None:
    text = _text(element, name)
    address = urljoin(base, text) if text else ""
    return address if _is_web(address) else None


def _text(element: ElementTree.Element, name: str) -> str | None:
    for child in element:
        if _name(child) == name and child.text:
            return " ".join(child.text.split()) or None
    return None


def _is_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
