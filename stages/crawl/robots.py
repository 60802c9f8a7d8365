"""robots.txt: what a site asks of crawlers (RFC 9309), and the crawl delay that many sites add to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes, urlsplit

MAX_BYTES = 500 * 1024
"""So much of a file is read (RFC 9309, section 2.5); what comes after is ignored."""

MAX_REDIRECTS = 5
LONGEST_CACHE_S = 24 * 3600.0
LONGEST_DELAY_S = 60.0
"""A crawl delay beyond it is taken for a refusal."""

_LONGEST_LINE = 4096
_TOKEN = re.compile(r"[A-Za-z_-]+")
_SAFE = "/?:@!$&'()*+,;=-._~%[]#"


@dataclass(frozen=True)
class Rule:
    """One allow or disallow line. pattern: the path as it is written, with `*` and `$`."""

    allow: bool
    pattern: str

    @property
    def length(self) -> int:
        return len(self.pattern.encode())


@dataclass
class Group:
    """The lines for some crawlers. crawl_delay: seconds between two requests, where the file gives one."""

    rules: list[Rule] = field(default_factory=list)
    crawl_delay: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a URL may be fetched, and the line that says so (None: no line speaks of it)."""

    allowed: bool
    rule: Rule | None = None


class Robots:
    """The rules of one robots.txt for one crawler."""

    def __init__(self, group: Group, sitemaps: tuple[str, ...] = ()) -> None:
        self.crawl_delay = group.crawl_delay
        self.sitemaps = sitemaps
        self._rules = sorted(group.rules, key=lambda rule: (-rule.length, not rule.allow))

    def verdict(self, url: str) -> Verdict:
        """The longest matching line decides, and of equally long ones the one that allows (section 2.2.2)."""
        path = path_of(url)
        if path == "/robots.txt":
            return Verdict(True)
        for rule in self._rules:
            if matches(rule.pattern, path):
                return Verdict(rule.allow, rule)
        return Verdict(True)


def parse(text: bytes, agent: str) -> Robots:
    """The rules for the crawler whose product token is `agent`.

    All groups that name the token, in any case, are taken together; without one, those for `*` are (section 2.2.1).
    """
    groups: dict[str, Group] = {}
    sitemaps: list[str] = []
    names: list[str] = []
    naming = False
    for key, value in _lines(text):
        if key == "user-agent":
            if not naming:
                names = []
            names.append(_token(value))
            naming = True
            groups.setdefault(names[-1], Group())
        elif key == "sitemap":
            sitemaps.append(value)
        elif key in ("allow", "disallow", "crawl-delay"):
            naming = False
            for name in names:
                _add(groups[name], key, value)
    group = groups.get(_token(agent)) or groups.get("*") or Group()
    return Robots(group, tuple(sitemaps))


def _add(group: Group, key: str, value: str) -> None:
    if key == "crawl-delay":
        if re.fullmatch(r"\d{1,6}(\.\d{1,6})?|\.\d{1,6}", value):
            group.crawl_delay = max(group.crawl_delay or 0.0, float(value))
    elif value:
        group.rules.append(Rule(key == "allow", normalised(value)))


def _lines(text: bytes) -> list[tuple[str, str]]:
    result = []
    for raw in text[:MAX_BYTES].removeprefix(b"\xef\xbb\xbf").splitlines():
        line = raw[:_LONGEST_LINE].decode("utf-8", "replace").partition("#")[0]
        key, colon, value = line.partition(":")
        if colon:
            result.append((key.strip().lower(), value.strip()))
    return result


def _token(name: str) -> str:
    """The product token of a user agent, for comparison: `*`, or its leading letters, dashes and underscores."""
    match = _TOKEN.match(name)
    return "*" if name.startswith("*") else match[0].lower() if match else ""


def path_of(url: str) -> str:
    """Path and query of a URL in the form that patterns are compared with."""
    parts = urlsplit(url)
    return normalised((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def normalised(path: str) -> str:
    """Percent-encoding made uniform (section 2.2.2): escapes of unreserved octets resolved, all others upper case.

    In a query the escapes of `:` and `/` are resolved too, since sites write these both ways.
    """
    if path.isascii() and "%" not in path and path.isprintable() and " " not in path:
        return path
    path, mark, query = re.sub(r"%[0-9A-Fa-f]{2}", _escape, quote(path, safe=_SAFE)).partition("?")
    return path + mark + query.replace("%3A", ":").replace("%2F", "/")


def _escape(match: re.Match[str]) -> str:
    character = unquote_to_bytes(match[0])
    return character.decode() if re.fullmatch(rb"[A-Za-z0-9._~-]", character) else match[0].upper()


def matches(pattern: str, path: str) -> bool:
    """Whether a path begins as a pattern says: `*` stands for any octets, a final `$` for the end.

    Each piece between stars is taken at its first place, so the time is linear whatever the pattern.
    """
    anchored = pattern.endswith("$")
    pieces = (pattern[:-1] if anchored else pattern).split("*")
    if not path.startswith(pieces[0]):
        return False
    position = len(pieces[0])
    if len(pieces) == 1:
        return not anchored or position == len(path)
    middle = pieces[1:-1] if anchored else pieces[1:]
    for piece in middle:
        found = path.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return not anchored or (len(path) - len(pieces[-1]) >= position and path.endswith(pieces[-1]))
