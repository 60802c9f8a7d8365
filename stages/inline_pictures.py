"""Pixels as pictures inside an HTML page, with drawings over them that grow with them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.page_shell import text_html

_LOSSLESS_SIDE = 48
_QUALITY = 75
_LARGEST = 256

STYLE = """
.shot { position: relative; display: block; overflow: hidden; border-radius: 4px; background: var(--card); }
.shot img { width: 100%; height: 100%; border: 0; border-radius: 0; image-rendering: pixelated; }
.shot svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.shot rect, .shot path, .shot line, .shot circle { vector-effect: non-scaling-stroke; }
.row { display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start; margin: 4px 0 14px; }
.row figure { width: auto; }
"""
"""CSS that pages with `shot_html` need."""

COLOURS = (
    "#2f6fde",
    "#e0682f",
    "#2e8b57",
    "#a04fc4",
    "#c2a21a",
    "#1d9aa8",
    "#c2513f",
    "#7d7f2b",
    "#d35a9b",
    "#5b6b8c",
)
"""Colours that are told apart on light and on dark pages."""


def picture_src(pixels: NDArray[np.uint8], largest: int = _LARGEST) -> str:
    """(H, W, 3) pixels as the `src` of an image, shrunk to `largest` a side; small ones keep every pixel."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((largest, largest), Image.Resampling.BOX)
    buffer = io.BytesIO()
    if max(picture.size) <= _LOSSLESS_SIDE:
        picture.save(buffer, "WEBP", lossless=True, method=4)
    else:
        picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def shared_picture(name: str, src: str) -> str:
    """CSS that lets any number of figures show one picture: `shot_html` with `shared` as its name."""
    return f".{name} {{ background: url({src}) center / 100% 100%; image-rendering: pixelated; }}\n"


def shot_html(
    src: str,
    size: tuple[float, float],
    *,
    shared: str = "",
    over: str = "",
    colour: str = "",
    caption: str = "",
    title: str = "",
) -> str:
    """A figure: a picture of `size` = (width, height) in CSS pixels.

    src: "" where `shared` names a picture of the page's style. over: SVG elements drawn on it, in units of its sides
    (0 to 1 each way). colour: of a frame. title: shown on hover.
    """
    told = text_html(title or caption)
    picture = f'<img alt="{told}" src="{src}">' if src else ""
    label = "" if src else f' role="img" aria-label="{told}"'
    frame = f";box-shadow:0 0 0 2px {colour}" if colour else ""
    drawing = f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{over}</svg>' if over else ""
    below = f"<figcaption>{text_html(caption)}</figcaption>" if caption else ""
    width, height = (f"{side:.0f}px" for side in size)
    return (
        f'<figure title="{told}" style="width:{width}"><span class="shot {shared}"{label} '
        f'style="height:{height}{frame}">{picture}{drawing}</span>{below}</figure>'
    )


def cells_path(cells: NDArray[np.bool_]) -> str:
    """The `d` of an SVG path that fills the true cells of (rows, columns), over a drawing from 0 to 1 each way."""
    rows, columns = cells.shape
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    parts = []
    for row in range(rows):
        starts, stops = np.flatnonzero(edges[row] == 1), np.flatnonzero(edges[row] == -1)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            parts.append(
                f"M{start / columns:.4g} {row / rows:.4g}h{(stop - start) / columns:.4g}"
                f"v{1 / rows:.4g}h{(start - stop) / columns:.4g}z"
            )
    return "".join(parts)


def box_svg(box: Iterable[float], colour: str, width: float = 2, dashed: bool = False) -> str:
    """An empty rectangle (left, top, right, bottom) in shares of the sides."""
    left, top, right, bottom = box
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{left:.4g}" y="{top:.4g}" width="{right - left:.4g}" height="{bottom - top:.4g}" fill="none" '
        f'stroke="{colour}" stroke-width="{width:g}"{dashes}/>'
    )
