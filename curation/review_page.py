"""One self-contained HTML page of several sections, with each picture in it once and within a budget of bytes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.galleries import Tile, thumbnail
from curation.page_shell import filled_page, page_part, text_html


@dataclass
class Thumbnails:
    """The pictures of a page as WebP, each once. Sections share them, and what one does not need is left to the next.

    size: side in CSS pixels. budget: bytes of the page that pictures may still take.
    """

    size: int = 64
    budget: int = 0
    data: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def allow(self, more: int) -> None:
        """Let pictures take `more` bytes besides what is left."""
        self.budget += more

    def has(self, key: str) -> bool:
        """Whether the picture is on the page already."""
        return key in self._places

    def add(self, key: str, image: bytes, orientation: int = 1) -> bool:
        """Put a picture on the page under `key`; False where the budget does not allow it."""
        if key in self._places:
            return True
        buffer = io.BytesIO()
        thumbnail(Tile(image, orientation=orientation), self.size).save(buffer, "WEBP", quality=60, method=2)
        text = base64.b64encode(buffer.getvalue()).decode()
        if len(text) + 4 > self.budget:
            return False
        self.budget -= len(text) + 4
        self._places[key] = len(self.data)
        self.data.append(text)
        return True

    def place(self, key: str) -> int:
        """Where a picture stands among all, -1 where it is not on the page."""
        return self._places.get(key, -1)


@dataclass(frozen=True)
class Figure:
    """A picture of a row of pictures. tone: "", "dropped" (grey), "good" or "bad" (its caption's colour)."""

    key: str
    caption: str
    tone: str = ""


@dataclass(frozen=True)
class PageSection:
    """A titled part of a page. body: HTML. data: JSON for the page's script, by the id of its element."""

    id: str
    title: str
    body: str
    data: Mapping[str, Any] = field(default_factory=dict)


def paragraph(text: str) -> str:
    """A paragraph of soft text."""
    return f"<p>{text_html(text)}</p>"


def table_html(head: Sequence[str], rows: Iterable[Sequence[object]], numeric_from: int = 1) -> str:
    """A table; columns from `numeric_from` on are set to the right."""

    def cell(tag: str, place: int, value: object) -> str:
        kind = ' class="n"' if place >= numeric_from else ""
        return f"<{tag}{kind}>{text_html(value)}</{tag}>"

    lines = ["".join(cell("th", place, name) for place, name in enumerate(head))]
    lines += ["".join(cell("td", place, value) for place, value in enumerate(row)) for row in rows]
    return f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def figures_html(figures: Sequence[Figure], thumbnails: Thumbnails, together: int = 1) -> str:
    """A row of pictures with captions; those that are not on the page are left out.

    together: pictures that are one set, such as 2 for pairs: they stand side by side, or are left out.
    """
    sets = [figures[start : start + together] for start in range(0, len(figures), together)]
    shown = [
        "".join(_figure(figure, thumbnails.place(figure.key)) for figure in found)
        for found in sets
        if all(thumbnails.has(figure.key) for figure in found)
    ]
    around = ("", "") if together == 1 else ('<div class="set">', "</div>")
    return f'<div class="tiles">{"".join(around[0] + text + around[1] for text in shown)}</div>'


def _figure(figure: Figure, place: int) -> str:
    tone = f' class="{figure.tone}"' if figure.tone else ""
    caption = text_html(figure.caption)
    return (
        f'<figure{tone} title="{caption}"><img data-t="{place}" alt="{caption}"><figcaption>{caption}</figcaption>'
        "</figure>"
    )


def bars_html(rows: Sequence[tuple[str, Sequence[int]]], series: Sequence[str]) -> str:
    """Horizontal bars: a row's name and one bar for each series, all to one scale."""
    most = max((count for _, counts in rows for count in counts), default=0) or 1
    lines = []
    for name, counts in rows:
        bars = "".join(
            f'<i class="s{place}" style="width:{100 * count / most:.2f}%"></i><b>{count:,}</b>'
            for place, count in enumerate(counts)
        )
        lines.append(
            f'<div class="bar"><span title="{text_html(name)}">{text_html(name)}</span><div>{bars}</div></div>'
        )
    legend = "".join(f'<span><i class="s{n}"></i>{text_html(name)}</span>' for n, name in enumerate(series))
    return f'<div class="legend">{legend}</div><div class="bars">{"".join(lines)}</div>'


def page_html(title: str, lead: str, sections: Sequence[PageSection], thumbnails: Thumbnails, style: str = "") -> str:
    """The page. title: plain text. lead: HTML above the sections. style: CSS of the page's own."""
    buttons = "".join(f'<button data-to="{s.id}">{text_html(s.title)}</button>' for s in sections)
    body = "".join(f'<section id="{s.id}"><h2>{text_html(s.title)}</h2>{s.body}</section>' for s in sections)
    data = {"thumbnails": thumbnails.data} | {name: value for s in sections for name, value in s.data.items()}
    scripts = "".join(
        f'<script type="application/json" id="data-{name}">{script_json(value)}</script>'
        for name, value in data.items()
    )
    return filled_page(
        title,
        lead=lead,
        nav=buttons,
        body=body,
        data=scripts,
        tile=thumbnails.size,
        style=page_part("curation", "review.css") + style,
        script=page_part("curation", "review.js"),
    )


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever its texts hold."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
