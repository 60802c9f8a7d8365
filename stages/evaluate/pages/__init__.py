"""Pages of an evaluation for a person to browse: figures, mistakes, neighbours, patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stages.evaluate.evaluated import Evaluated


def write_pages(folder: Path, evaluated: Evaluated, costs: Mapping[str, float] | None = None) -> None:
    """Write `figures.html`, `neighbours.html`, with labels `mistakes.html`, and `patches.html` where there are any.

    Each is one file that needs nothing from outside, under 2 MB, readable at 600 pixels. costs: of the measurement.
    """
    from stages.evaluate.neighbours import neighbours_page
    from stages.evaluate.pages.figures_page import figures_page
    from stages.evaluate.pages.mistakes import mistakes_page
    from stages.evaluate.pages.patches import patches_page

    pages = {
        "figures.html": figures_page(evaluated, costs),
        "neighbours.html": neighbours_page(evaluated.images, evaluated.split, evaluated.features, evaluated.seed),
    }
    if evaluated.predictions:
        pages["mistakes.html"] = mistakes_page(evaluated)
    if evaluated.samples is not None:
        pages["patches.html"] = patches_page(evaluated, evaluated.samples)
    for name, page in pages.items():
        (folder / name).write_text(page, encoding="utf-8")
