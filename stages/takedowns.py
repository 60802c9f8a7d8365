"""Takedown lists: what rights holders, or the law, want gone, by URL, domain or content hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stages.base import StageError

_HASH = re.compile(r"[0-9a-f]{64}")
_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?")

TAKEDOWN = "takedown"
"""Reason code of what a list names."""


class Takedowns:
    """Entries, one each: a URL (https://...), a domain (its subdomains too), or the SHA-256 of a file in hex.

    The scheme and fragment of a URL do not matter. Raises ValueError at an entry that is none of these.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._urls: dict[str, str] = {}
        self._domains: set[str] = set()
        self._hashes: set[str] = set()
        for entry in entries:
            self._add(entry.strip())

    def _add(self, entry: str) -> None:
        if _HASH.fullmatch(entry.lower()):
            self._hashes.add(entry.lower())
        elif "://" in entry:
            self._urls[_bare(entry)] = entry
        elif _DOMAIN.fullmatch(entry.lower().rstrip(".").removeprefix("*.")):
            self._domains.add(entry.lower().rstrip(".").removeprefix("*."))
        else:
            raise ValueError(f"'{entry[:100]}' is no URL, domain or SHA-256; write one of these a line")

    def __len__(self) -> int:
        return len(self._urls) + len(self._domains) + len(self._hashes)

    def names(self, *what: str | None) -> str | None:
        """The entry that names any of these URLs and hashes, or None."""
        if not len(self):
            return None
        for item in what:
            if item is None:
                continue
            if item in self._hashes:
                return item
            if "://" in item:
                found = self._urls.get(_bare(item)) or self._domain_of(item)
                if found:
                    return found
        return None

    def _domain_of(self, url: str) -> str | None:
        try:
            host = (urlsplit(url).hostname or "").rstrip(".")
        except ValueError:
            return None
        while host:
            if host in self._domains:
                return host
            host = host.partition(".")[2]
        return None

    def apply(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it is, or, where the list names it, without its bytes and with the reason; its SHA-256 stays, so
        that the same bytes from elsewhere are known."""
        if row["status"] == "ok" and self.names(row["url"], row.get("final_url"), row["sha256"]):
            return {**row, "status": "skipped", "reason": TAKEDOWN, "bytes": None, "size": None}
        return row


def _bare(url: str) -> str:
    """A URL without scheme, fragment and the case of its host."""
    rest = url.partition("#")[0].partition("://")[2]
    host, slash, path = rest.partition("/")
    return f"{host.lower()}{slash or '/'}{path}"


def read_takedowns(setting: str | list[str], of: str) -> Takedowns:
    """The list that a stage's `takedown` names: entries, or the path of a file with one entry a line (# comments).

    of: the stage, for messages. Raises StageError where the file cannot be read or an entry is none.
    """
    try:
        return Takedowns(_lines(setting, of) if isinstance(setting, str) else setting)
    except ValueError as error:
        raise StageError(f"{of}.takedown: {error}") from None


def takedown_digest(setting: str | list[str], of: str) -> dict[str, str]:
    """External input of a stage: the digest of the list's file, if it is one. Raises as `read_takedowns` does."""
    if not setting or not isinstance(setting, str):
        return {}
    entries = sorted(set(_lines(setting, of)))
    return {TAKEDOWN: hashlib.sha256("\n".join(entries).encode()).hexdigest()}


def _lines(path: str, of: str) -> list[str]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StageError(f"{of}.takedown: '{path}' cannot be read ({error.strerror}); correct the path") from None
    except UnicodeDecodeError:
        raise StageError(f"{of}.takedown: '{path}' is not UTF-8 text; save it as UTF-8") from None
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
