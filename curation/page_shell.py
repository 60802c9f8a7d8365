"""The shell of every HTML page: head, colours for light and dark, type, tables; nothing is fetched from elsewhere."""

from __future__ import annotations

import html
from importlib import resources


def text_html(text: object) -> str:
    """Text from anywhere, safe between tags and in quoted attributes."""
    return html.escape(str(text), quote=True)


def filled_page(
    title: str,
    *,
    lead: str = "",
    nav: str = "",
    body: str,
    data: str = "",
    tile: int = 0,
    style: str = "",
    script: str = "",
) -> str:
    """The page. title: plain text. lead: HTML below it. nav: HTML of the bar that stays on top. data: HTML of the
    elements that the script reads. tile: side of a picture in CSS pixels. style: CSS, script: JavaScript of its own.
    """
    fields = {
        "TITLE": text_html(title),
        "STYLE": f":root {{ --tile: {tile}px; }}\n{style}",
        "LEAD": lead,
        "NAV": nav,
        "BODY": body,
        "SCRIPT": data + (f"<script>\n{script}</script>" if script else ""),
    }
    first, *rest = page_part("curation", "page.html").split("<!--")
    return first + "".join(fields[name] + text for name, _, text in (part.partition("-->") for part in rest))


def page_part(package: str, name: str) -> str:
    """A file of a package that goes into pages."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
