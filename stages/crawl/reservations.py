"""What rights holders say of machine use: X-Robots-Tag, robots meta tags, and TDM reservations.

"TDM Reservation Protocol" (W3C Community Group Report, TDMRep): a response header, a meta tag, or a file
`/.well-known/tdmrep.json` that lists locations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html.parser import HTMLParser

from stages.crawl.robots import matches, normalised, path_of

TDM_PATH = "/.well-known/tdmrep.json"
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class OptOuts:
    """Which opt-outs count.

    agent: product token of the crawler, for directives that name one.
    words: directives that keep a picture out, in lower case. tdm: whether TDM reservations count.
    """

    agent: str
    words: frozenset[str]
    tdm: bool

    def of_headers(self, robots_tags: Iterable[str], tdm_reservation: str | None) -> str | None:
        """The opt-out in a response's headers, in words for the ledger; None where there is none."""
        for line in robots_tags:
            found = self._in_tag(line)
            if found:
                return f"X-Robots-Tag: {found}"
        return "tdm-reservation: 1" if self.tdm and (tdm_reservation or "").strip() == "1" else None

    def of_page(self, html: bytes) -> str | None:
        """The opt-out in a page's meta tags."""
        reader = _MetaReader()
        reader.feed(html[:_HEAD_BYTES].decode("utf-8", "replace"))
        for name, content in reader.tags:
            if name in ("robots", self.agent.lower()):
                found = self._in_words(content)
                if found:
                    return f"meta {name}: {found}"
            elif name == "tdm-reservation" and self.tdm and content.strip() == "1":
                return "meta tdm-reservation: 1"
        return None

    def _in_tag(self, line: str) -> str | None:
        """A header holds directives for all, or `agent: directives`; some directives have a value after a colon."""
        first, colon, rest = line.partition(":")
        name = first.strip().lower()
        if colon and "," not in first and name not in _WITH_VALUE:
            return self._in_words(rest) if name == self.agent.lower() else None
        return self._in_words(line)

    def _in_words(self, text: str) -> str | None:
        for part in text.split(","):
            word = part.strip().lower()
            if word in self.words or (word == "none" and "noindex" in self.words):
                return word
        return None


_WITH_VALUE = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})


class TdmFile:
    """The reservations of a site's tdmrep.json; of several locations that match, the longest decides."""

    def __init__(self, data: bytes) -> None:
        self._rules: list[tuple[int, bool, str]] = []
        try:
            entries = json.loads(data)
        except (ValueError, RecursionError):
            entries = []
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("location"), str):
                pattern = normalised(entry["location"])
                self._rules.append((len(pattern), str(entry.get("tdm-reservation")) == "1", pattern))
        self._rules.sort(reverse=True)

    def reserves(self, url: str) -> bool:
        """Whether the rights in what stands at `url` are reserved."""
        if not self._rules:
            return False
        path = path_of(url)
        return next((reserved for _, reserved, pattern in self._rules if matches(pattern, path)), False)


class _MetaReader(HTMLParser):
    """The named meta tags of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "meta" and "name" in values:
            self.tags.append((values["name"].strip().lower(), values.get("content", "")))
