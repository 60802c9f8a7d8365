"""Reading a web page for what a crawl wants: the pictures with their texts, and the links to other pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

_CANDIDATE = re.compile(r"\s*(\S*[^\s,])(?:\s+([^,]+))?\s*(?:,|$)")
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})

Attributes = dict[str, str]
Candidate = tuple[str, float]


@dataclass(frozen=True)
class PageImage:
    """A picture that a page shows: absolute URL, text and label."""

    url: str
    caption: str | None
    label: str | None


@dataclass(frozen=True)
class Page:
    """What a page holds, in the order of the page and each URL once.

    licence: address or name of the licence that the page declares (rel="license").
    """

    images: list[PageImage]
    links: list[str]
    licence: str | None = None


def read_page(html: bytes, url: str, label_attribute: str | None = None) -> Page:
    """Extract `<img>` and `<a>` of a page.

    An image's URL is the largest of `srcset` (its own, or that of a `<source>` of the `<picture>` around it), else
    `src`, else `data-src`; its caption is `alt`, else `title`, else
    the `<figcaption>` of the figure around it; its label is `label_attribute` of itself or of the nearest element
    around it that has one. `<base href>` is respected; schemes other than http and https are left out.
    """
    reader = _Reader(url, label_attribute)
    reader.feed(_text(html))
    reader.close()
    images: dict[str, PageImage] = {}
    for image in reader.images:
        images.setdefault(image.url, image)
    return Page(list(images.values()), list(dict.fromkeys(reader.links)), reader.licence)


def same_site(url: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return urlsplit(url)[:2] == urlsplit(other)[:2]


def same_domain(url: str, other: str) -> bool:
    """Whether the host of `url` is that of `other`, without a leading www., or below it."""
    host, domain = ((urlsplit(one).hostname or "") for one in (url, other))
    domain = domain.removeprefix("www.")
    return host == domain or host.endswith(f".{domain}")


class _Reader(HTMLParser):
    """One pass over a page. Elements that are never closed end with the element around them."""

    def __init__(self, url: str, label_attribute: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self.images: list[PageImage] = []
        self.links: list[str] = []
        self.licence: str | None = None
        self._base = url
        self._label_attribute = label_attribute
        self._open: list[tuple[str, str | None]] = []  # elements around, each with the label in force inside it
        self._figure_start = 0
        self._picture: list[Candidate] = []
        self._figcaption: list[str] | None = None
        self._in_figcaption = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        label = values.get(self._label_attribute or "", "").strip() or (self._open[-1][1] if self._open else None)
        if tag in ("a", "link", "area") and "href" in values:
            self._add_link(tag, values)
        elif tag == "img":
            self._add_image(values, label)
        elif tag == "picture":
            self._picture = []
        elif tag == "source" and not values.get("type", "").startswith("image/svg"):
            self._picture += _srcset(values.get("srcset") or values.get("data-srcset") or "")
        elif tag == "base" and "href" in values:
            self._base = _absolute(self._base, values["href"]) or self._base
        elif tag == "figure":
            self._figure_start, self._figcaption = len(self.images), []
        elif tag == "figcaption":
            self._in_figcaption = True
        if tag not in _VOID:
            self._open.append((tag, label))

    def handle_endtag(self, tag: str) -> None:
        names = [name for name, _ in self._open]
        if tag in names:
            del self._open[len(names) - 1 - names[::-1].index(tag) :]
        if tag == "figcaption":
            self._in_figcaption = False
        elif tag == "figure":
            self._close_figure()
        elif tag == "picture":
            self._picture = []

    def handle_data(self, data: str) -> None:
        if self._in_figcaption and self._figcaption is not None:
            self._figcaption.append(data)

    def _close_figure(self) -> None:
        caption = " ".join("".join(self._figcaption or []).split())
        for index in range(self._figure_start, len(self.images)):
            if caption and self.images[index].caption is None:
                self.images[index] = replace(self.images[index], caption=caption)
        self._figcaption = None
        self._in_figcaption = False
        self._figure_start = len(self.images)

    def _add_link(self, tag: str, values: Attributes) -> None:
        link = _absolute(self._base, values["href"])
        if "license" in values.get("rel", "").lower().split():
            self.licence = self.licence or link
        elif link and tag != "link":
            self.links.append(link)

    def _add_image(self, values: Attributes, label: str | None) -> None:
        candidates = _srcset(values.get("srcset") or values.get("data-srcset") or "") + self._picture
        best = max(candidates, key=lambda candidate: candidate[1])[0] if candidates else ""
        address = _absolute(self._base, best or values.get("src") or values.get("data-src") or "")
        if address:
            texts = (" ".join(values.get(name, "").split()) for name in ("alt", "title"))
            self.images.append(PageImage(address, next((text for text in texts if text), None), label))


def _text(html: bytes) -> str:
    declared = re.search(rb"""<meta[^>]+charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", html[:2048], re.IGNORECASE)
    try:
        return html.decode(declared[1].decode("ascii") if declared else "utf-8-sig", "replace")
    except LookupError:
        return html.decode("utf-8", "replace")


def _absolute(base: str, reference: str) -> str | None:
    try:
        address = urldefrag(urljoin(base, reference.strip())).url
        parts = urlsplit(address)
        return address if reference.strip() and parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def _srcset(text: str) -> list[Candidate]:
    """(URL, width or density) of the candidates of a srcset attribute; the first of equals comes first."""
    result = []
    for url, descriptor in _CANDIDATE.findall(text):
        number = re.match(r"(\d+\.?\d*)[wx]$", descriptor.strip())
        result.append((url, float(number[1]) if number else 1.0))
    return result
