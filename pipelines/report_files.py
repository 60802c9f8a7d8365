"""The files of a stage's report folder, each as a part of an HTML page that stands alone."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from curation.page_shell import text_html

_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
_TEXTS = {".md", ".csv", ".json", ".txt"}
_ORDER: tuple[Collection[str], ...] = ((".md",), _PICTURES, (".html",))
_TABLE_ROWS = 50
_TEXT_LENGTH = 20_000


@dataclass(frozen=True)
class ReportFile:
    """One file. name: its path below the report folder. embedded: bytes that it takes in a page, about."""

    path: Path
    name: str
    embedded: int


def report_files(folder: Path) -> list[ReportFile]:
    """What a report folder holds and a page can show; texts first, then pictures, then pages, by name."""
    found = []
    for path in folder.rglob("*"):
        kind = path.suffix.lower()
        if path.is_file() and (kind in _PICTURES or kind in _TEXTS or kind == ".html"):
            size = path.stat().st_size
            embedded = size * 4 // 3 if kind in _PICTURES else min(size, 4 * _TEXT_LENGTH) if kind in _TEXTS else size
            found.append(ReportFile(path, path.relative_to(folder).as_posix(), embedded + 500))
    return sorted(found, key=lambda file: (_rank(file.path), file.name))


def _rank(path: Path) -> int:
    kind = path.suffix.lower()
    return next((place for place, kinds in enumerate(_ORDER) if kind in kinds), len(_ORDER))


def file_html(file: ReportFile) -> str:
    """The file in a box that opens and closes. Pages run in a sandbox of their own, as they do in MLflow's viewer."""
    kind = file.path.suffix.lower()
    shown = _shown(file, kind)
    is_open = " open" if kind == ".md" or kind in _PICTURES else ""
    return f"<details{is_open}><summary>{text_html(file.name)}</summary><div>{shown}</div></details>"


def _shown(file: ReportFile, kind: str) -> str:
    if kind in _PICTURES:
        data = base64.b64encode(file.path.read_bytes()).decode()
        return f'<img alt="{text_html(file.name)}" src="data:{_PICTURES[kind]};base64,{data}">'
    text = file.path.read_text(encoding="utf-8", errors="replace")
    if kind == ".html":
        frame = f'title="{text_html(file.name)}" sandbox="allow-scripts" loading="lazy"'
        return f'<iframe {frame} srcdoc="{text_html(text)}"></iframe>'
    if kind == ".md":
        return f'<div class="text wide">{markdown_html(text)}</div>'
    if kind == ".csv":
        return _csv_html(text)
    if kind == ".json":
        text = _indented(text)
    return f"<pre>{text_html(text[:_TEXT_LENGTH])}</pre>" + _rest(len(text) - _TEXT_LENGTH, "characters")


def markdown_html(text: str) -> str:
    """Markdown with tables as HTML. HTML in it is shown as it is written, and no picture is loaded."""
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text)


def _csv_html(text: str) -> str:
    head, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    lines = ["".join(f"<th>{text_html(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{text_html(cell)}</td>" for cell in row) for row in rows[:_TABLE_ROWS]]
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>{table}</table></div>' + _rest(len(rows) - _TABLE_ROWS, "rows")


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _rest(count: int, what: str) -> str:
    return f'<p class="soft">and {count:,} more {what}</p>' if count > 0 else ""
