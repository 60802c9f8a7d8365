"""Pictures for a person to judge curation by: self-contained HTML galleries, contact sheets, histograms."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from curation.coverage import balance
from curation.decoding import DecodeError, decode
from curation.page_shell import filled_page, page_part, text_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

MAX_HTML_BYTES = 1_900_000
MAX_TILES = 3000
_FILTER = """<input id="filter" type="search" placeholder="Filter by text" aria-label="Filter by text">
<span id="found"></span>"""


@dataclass(frozen=True)
class Tile:
    """One picture of a gallery.

    image: encoded bytes. caption: text below it, found by the filter. dropped: drawn grey and faded.
    orientation: EXIF orientation 1..8 of the bytes.
    """

    image: bytes
    caption: str = ""
    dropped: bool = False
    orientation: int = 1


@dataclass(frozen=True)
class Section:
    """A titled, collapsible group of tiles; `detail` is a line about it, `figure` inline SVG above the tiles.

    together: tiles in a row that are one set, such as 2 for pairs: they stand side by side, or are left out.
    """

    title: str
    tiles: Sequence[Tile]
    detail: str = ""
    figure: str = ""
    together: int = 1


def thumbnail(tile: Tile, size: int) -> Image.Image:
    """The tile's picture inside a size x size square, white around it; a crossed grey square if it can't be read."""
    canvas = Image.new("RGB", (size, size), (255, 255, 255))
    try:
        picture = decode(tile.image, orientation=tile.orientation, draft_size=size)
    except DecodeError:
        canvas.paste((204, 204, 204), (0, 0, size, size))
        ImageDraw.Draw(canvas).line([(0, 0), (size, size)], fill=(140, 140, 140), width=2)
        return canvas
    scale = min(size / picture.width, size / picture.height)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(picture, ((size - width) // 2, (size - height) // 2))
    return canvas


def _evenly(count: int, keep: int) -> list[int]:
    """`keep` positions spread evenly over range(count), the first one included."""
    return list(range(count)) if keep >= count else [(i * count) // keep for i in range(keep)]


def _thin(sections: Sequence[Section], share: float) -> list[Section]:
    """Keep an even share of each section's sets of tiles, at least one a section."""
    thinned = []
    for section in sections:
        sets = _sets(section.tiles, section.together)
        keep = max(1, int(len(sets) * share)) if sets else 0
        thinned.append(replace(section, tiles=[tile for i in _evenly(len(sets), keep) for tile in sets[i]]))
    return thinned


def _sets(items: Sequence[T], together: int) -> list[Sequence[T]]:
    return [items[start : start + together] for start in range(0, len(items), together)]


def _section_sets(section: Section, size: int) -> list[str]:
    """A text for each set of tiles."""
    tiles = [_tile_html(tile, size) for tile in section.tiles]
    if section.together == 1:
        return tiles
    return [f'<div class="set">{"".join(found)}</div>' for found in _sets(tiles, section.together)]


def _tile_html(tile: Tile, size: int) -> str:
    buffer = io.BytesIO()
    thumbnail(tile, size).save(buffer, "WEBP", quality=72, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = text_html(tile.caption)
    dropped = ' class="dropped"' if tile.dropped else ""
    return (
        f'<figure{dropped} title="{caption}"><img alt="{caption}" '
        f'src="data:image/webp;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _section_html(section: Section, figures: Sequence[str], opened: bool) -> str:
    detail = f"<p>{text_html(section.detail)}</p>" if section.detail else ""
    return (
        f"<details{' open' if opened else ''}><summary>{text_html(section.title)}</summary>"
        f'{detail}{section.figure}<div class="tiles">{"".join(figures)}</div></details>'
    )


def _fit(rendered: list[tuple[Section, list[str]]], budget: int) -> list[tuple[Section, list[str]]]:
    """Drop sets of tiles evenly, then whole sections evenly, until the text is within `budget` bytes."""

    def weight(parts: Sequence[tuple[Section, list[str]]]) -> int:
        words = sum(300 + 2 * len(s.title) + 2 * len(s.detail) + len(s.figure) for s, _ in parts)
        return words + sum(len(figure) for _, figures in parts for figure in figures)

    share = 1.0
    kept = rendered
    while weight(kept) > budget and any(len(figures) > 1 for _, figures in kept):
        share *= min(0.95, budget / weight(kept))
        kept = [
            (section, [figures[i] for i in _evenly(len(figures), max(1, int(len(figures) * share)))])
            for section, figures in rendered
        ]
    while weight(kept) > budget and len(kept) > 1:
        kept = [kept[i] for i in _evenly(len(kept), max(1, int(len(kept) * min(0.95, budget / weight(kept)))))]
    return kept


def gallery_html(title: str, sections: Sequence[Section], note: str = "", size: int = 96) -> str:
    """One HTML page that needs nothing from outside: thumbnails inline as WebP, a text filter, a fold per section.

    size: side of a thumbnail in CSS pixels. Where the page would pass 2 MB, tiles (and, if even one tile a section
    is too many, sections) are left out evenly, and the page says how many.
    """
    total = sum(len(section.tiles) for section in sections)
    chosen = _thin(sections, MAX_TILES / total) if total > MAX_TILES else list(sections)
    rendered = [(section, _section_sets(section, size)) for section in chosen]
    kept = _fit(rendered, MAX_HTML_BYTES - 2 * len(note))
    shown = sum(figure.count("<figure") for _, figures in kept for figure in figures)
    notes = [note] if note else []
    if shown < total:
        notes.append(f"Showing {shown} of {total} pictures, chosen evenly, to keep this page small.")
    if len(kept) < len(sections):
        notes.append(f"Showing {len(kept)} of {len(sections)} sections.")
    body = "".join(_section_html(section, figures, index < 40) for index, (section, figures) in enumerate(kept))
    return filled_page(
        title,
        lead="".join(f"<p>{text_html(line)}</p>" for line in notes),
        nav=_FILTER,
        body=body or "<p>Nothing to show.</p>",
        tile=size,
        style=page_part("curation", "gallery.css"),
        script=page_part("curation", "gallery.js"),
    )


def contact_sheet(tiles: Sequence[Tile], columns: int = 10, size: int = 72) -> Image.Image:
    """A grid of thumbnails, `columns` wide, with short captions below; dropped tiles grey and faded."""
    gap, line = 4, 12 if any(tile.caption for tile in tiles) else 0
    rows = max(1, -(-len(tiles) // columns))
    cell_height = size + line + gap
    sheet = Image.new("RGB", (columns * (size + gap) + gap, rows * cell_height + gap), (247, 247, 248))
    pen = ImageDraw.Draw(sheet)
    for index, tile in enumerate(tiles):
        left = gap + (index % columns) * (size + gap)
        top = gap + (index // columns) * cell_height
        picture = thumbnail(tile, size)
        if tile.dropped:
            grey = ImageEnhance.Color(picture).enhance(0.0)
            picture = Image.blend(grey, Image.new("RGB", grey.size, (247, 247, 248)), 0.5)
        sheet.paste(picture, (left, top))
        if line:
            caption = tile.caption.encode("ascii", "replace").decode()[: max(1, size // 6)]
            pen.text((left, top + size), caption, fill=(140, 60, 50) if tile.dropped else (70, 70, 80))
    return sheet


def class_histogram(before: Mapping[str, int], after: Mapping[str, int]) -> Figure:
    """Bars of images per class before and after curation, most frequent class first (at most 40 classes drawn).

    The title gives the balance, the Shannon entropy of the classes over its maximum, before and after.
    """
    from matplotlib.figure import Figure

    names = sorted(set(before) | set(after), key=lambda name: (-before.get(name, 0), name))
    before, after = ({name: counts.get(name, 0) for name in names} for counts in (before, after))
    shown = names[:40]
    figure = Figure(figsize=(7, 1.2 + 0.28 * max(len(shown), 3)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(shown))
    for counts, offset, colour, label in ((before, -0.2, "#b8bec9", "before"), (after, 0.2, "#2f6fde", "after")):
        bars = axes.barh(rows + offset, [counts[name] for name in shown], 0.38, color=colour, label=label)
        axes.bar_label(bars, fontsize=7, padding=2, color="#555")
    axes.set_yticks(rows, [name[:32] for name in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.spines[["top", "right"]].set_visible(False)
    more = f" · {len(names) - len(shown)} more classes not drawn" if len(names) > len(shown) else ""
    axes.set_title(f"Class balance {balance(before):.2f} -> {balance(after):.2f}{more}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
