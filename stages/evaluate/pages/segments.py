"""The section of segmentations: pictures, their true classes, and those that a linear layer on patches gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.review_page import PageSection, paragraph, table_html
from stages.evaluate.evaluated import Evaluated, SegmentedSamples
from stages.evaluate.pages.contestants import interval_words
from stages.inline_pictures import COLOURS, cells_path, shot_html

_TILE = (128, 128)
_CELLS = 48
_OTHERS = "#3c4048"
_UNKNOWN = "#ffffff"
_PROBES = {"linear": "linear layer on patches", "knn": "nearest patches"}
_SHORT = {"linear": "linear", "knn": "nearest"}


def segments_section(evaluated: Evaluated, samples: SegmentedSamples) -> PageSection:
    """A row for each picture: itself, the truth, and the answers of both backbones; then the classes' figures.

    The page's style holds the pictures as m0, m1, ...
    """
    metrics, table = evaluated.record["metrics"], evaluated.record["segmentation"]
    shares = {row["class"]: row["share"] for row in table["classes"]}
    order = sorted(range(len(samples.numbers)), key=lambda place: (-shares[samples.numbers[place]], place))
    colours = {place: COLOURS[rank] if rank < len(COLOURS) else _OTHERS for rank, place in enumerate(order)}
    body = ""
    covers = {"true": samples.truth, "trained": samples.trained, "untrained": samples.untrained}
    for n, image_id in enumerate(samples.ids):
        tiles = shot_html("", _TILE, shared=f"m{n}", caption=image_id[:10])
        for caption, places in covers.items():
            tiles += shot_html("", _TILE, shared=f"m{n}", over=_cover(places[n], colours), caption=caption)
        body += f'<div class="row">{tiles}</div>'
    words = [
        [f"mIoU, {label}", *(interval_words(metrics, f"seg_{probe}_miou_{of}") for of in ("trained", "untrained"))]
        for probe, label in _PROBES.items()
    ]
    note = (
        "The classes that a linear layer finds, fitted on the patches of other images with masks. Colours stand for "
        "class numbers, as in the table; white: pixels that do not count."
    )
    figures = table_html(["", "trained", "untrained"], words) + _classes(table, samples, colours, order)
    return PageSection("segments", "Segmentation", paragraph(note) + body + figures)


def _cover(places: NDArray[np.uint8], colours: dict[int, str]) -> str:
    """SVG that covers a picture with the colours of its classes, in at most `_CELLS` cells a side."""
    rows, columns = (np.linspace(0, side - 1, min(side, _CELLS)).round().astype(int) for side in places.shape)
    cells = places[np.ix_(rows, columns)]
    return "".join(
        f'<path d="{cells_path(cells == place)}" fill="{colours.get(int(place), _UNKNOWN)}" fill-opacity=".72"/>'
        for place in np.unique(cells)
    )


def _classes(
    of: Mapping[str, Any], samples: SegmentedSamples, colours: Mapping[int, str], order: Sequence[int]
) -> str:
    """The classes' colours and figures, the largest class first."""
    by_number = {row["class"]: row for row in of["classes"]}
    rows, key = [], ""
    for place in order:
        row = by_number[samples.numbers[place]]
        cells = [row[f"{probe}_{contestant}"] for probe in _PROBES for contestant in ("trained", "untrained")]
        rows.append([row["class"], f"{row['share']:.3f}", *("" if c is None else f"{c:.3f}" for c in cells)])
        key += f'<span><i class="key" style="background:{colours[place]}"></i>{row["class"]}</span>'
    names = [f"{_SHORT[probe]}, {contestant}" for probe in _PROBES for contestant in ("trained", "untrained")]
    return f'<div class="legend">{key}</div>' + table_html(["class number", "share of pixels", *names], rows)
