"""Lists of URLs as a source: plain lines, or rows of named columns."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.base import StageError
from stages.crawl.sources import UrlListSource
from stages.crawl.targets import Target


def list_digest(path: str) -> str:
    """SHA-256 of the file. Raises StageError where it is missing or unreadable."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror
        raise StageError(f"crawl.sources: URL list '{path}' cannot be read ({reason}); correct the path") from None


def list_targets(source: UrlListSource, name: str) -> Iterator[Target]:
    """Every row with a URL as a target; rows without one are skipped and keep a row "line-<number>".

    Raises StageError where the file is unreadable, is no such format, or lacks the URL column.
    """
    list_digest(source.urls)
    try:
        for number, row in _rows(source):
            url = _text(row.get(source.url_column))
            if url is None:
                yield Target(source=name, url=f"line-{number}", outcome="failed:no_url")
                continue
            yield Target(
                source=name,
                url=url,
                caption=_text(row.get(source.caption_column)) if source.caption_column else None,
                label=_text(row.get(source.label_column)) if source.label_column else None,
            )
    except UnicodeDecodeError:
        raise StageError(f"crawl.sources: '{source.urls}' is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise StageError(f"crawl.sources: '{source.urls}' is not a table that can be read: {error}") from None


def _rows(source: UrlListSource) -> Iterator[tuple[int, dict[str, Any]]]:
    path = Path(source.urls)
    suffix = path.suffix.lower()
    with path.open(encoding="utf-8-sig", newline="") as file:
        if suffix == ".txt":
            for number, line in enumerate(file, 1):
                if line.strip() and not line.lstrip().startswith("#"):
                    yield number, {source.url_column: line}
        elif suffix == ".jsonl":
            yield from _json_rows(file, source)
        else:
            reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
            if source.url_column not in (reader.fieldnames or []):
                raise StageError(
                    f"crawl.sources: '{source.urls}' has no column '{source.url_column}'; "
                    f"set url_column to one of {', '.join(reader.fieldnames or []) or '(the file is empty)'}"
                )
            yield from ((reader.line_num, row) for row in reader)


def _json_rows(file: Any, source: UrlListSource) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise StageError(f"crawl.sources: '{source.urls}', line {number} is not a JSON object; correct the line")
        yield number, row


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).strip() or None
