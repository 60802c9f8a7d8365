"""Why a URL gave no picture (or no new one): the codes of the ledger's `reason`, each with its meaning.

A status of HTTP that has no code of its own is `http_<status>`.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Reason(StrEnum):
    """Code of the ledger, with a one-line meaning."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    # The picture is there.
    UNCHANGED = "unchanged", "the server says that nothing changed; the bytes are those of the earlier crawl"
    # The network and the server: another try may give another result.
    TIMEOUT = "timeout", "the exchange took longer than crawl.timeout_s"
    DNS = "dns", "the host's name could not be resolved"
    CONNECT = "connect", "no connection could be made"
    TLS = "tls", "the TLS session or the certificate was refused"
    INCOMPLETE = "incomplete", "the connection ended before the response did, or the response is no HTTP"
    HOST_DOWN = "host_down", "its host failed so often that nothing more was asked of it"
    # The site's or the rights holder's wish.
    ROBOTS_DISALLOWED = "robots_disallowed", "robots.txt asks crawlers to stay away from this path"
    ROBOTS_UNREACHABLE = "robots_unreachable", "robots.txt could not be read, which counts as a refusal (RFC 9309)"
    OPTED_OUT = "opted_out", "X-Robots-Tag, a robots meta tag or a TDM reservation asks not to use it"
    TAKEDOWN = "takedown", "named by the takedown list"
    # The address.
    INVALID_URL = "invalid_url", "no http(s) address, or one that cannot be read"
    PRIVATE_ADDRESS = "private_address", "the host leads to an address that is not of the public internet"
    TOO_MANY_REDIRECTS = "too_many_redirects", "more redirects than are followed"
    NO_URL = "no_url", "the row of the list holds no URL"
    # The response.
    TOO_LARGE = "too_large", "more bytes than crawl.max_bytes"
    EMPTY = "empty", "no bytes at all"
    NOT_IMAGE = "not_image", "the first bytes are of no known picture format (vector formats are none)"
    CONTENT_ENCODING = "content_encoding", "compressed in an unknown way, or damaged"
    PAGE = "page", "a web page: read for its pictures and links"
    NOT_SITEMAP = "not_sitemap", "listed as a sitemap, and none that can be read"
    NOT_HTML = "not_html", "linked to as a page, and neither a page nor a picture"
    # Files and data sets.
    MISSING = "missing", "the file was gone when it was to be read"
    UNREADABLE = "unreadable", "the file or folder cannot be read"
    BROKEN_LINK = "broken_link", "a symbolic link that leads nowhere"
    LINKED_TWICE = "linked_twice", "a link to a file that is listed under another name"
    DAMAGED_CONTAINER = "damaged_container", "the rest of the archive or table cannot be read"
    NO_PICTURE = "no_picture", "the row or sample of the data set holds no picture"


_BY_CODE = {str(reason): reason for reason in Reason}

TRANSIENT = frozenset({Reason.TIMEOUT, Reason.DNS, Reason.CONNECT, Reason.INCOMPLETE, Reason.HOST_DOWN})
"""Codes that say more of the moment than of the URL; `http_429` and `http_5xx` are such too."""

_HTTP = re.compile(r"http_[1-5](\d\d|xx)")


def is_transient(reason: str) -> bool:
    """Whether another try, a while later, may well give another result."""
    return reason in TRANSIENT or reason == "http_429" or reason.startswith("http_5")


def meaning(reason: str) -> str:
    """One line on what a code means. Raises KeyError where there is no such code."""
    if _HTTP.fullmatch(reason):
        return f"the server answered with status {reason.removeprefix('http_')}"
    return _BY_CODE[reason].meaning


def check_class(name: str) -> str:
    """A class of failures as `crawl.retry` may name it: a code, `http_404`, `http_5xx`, or `transient` for all that
    may be cured by waiting. Raises ValueError with what is allowed."""
    if name == "transient" or _HTTP.fullmatch(name) or name in set(Reason):
        return name
    raise ValueError(
        f"'{name}' is no class of failures; write transient, http_404, http_5xx or one of {', '.join(sorted(Reason))}"
    )


def in_classes(reason: str, classes: frozenset[str]) -> bool:
    """Whether a code belongs to one of `classes` (see `check_class`)."""
    return (
        reason in classes
        or ("transient" in classes and is_transient(reason))
        or (reason.startswith("http_") and f"{reason[:6]}xx" in classes)
    )
