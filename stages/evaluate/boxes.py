"""True boxes of objects, where the metadata of images have them, and how often an object is found without labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.artifact import Artifact
from stages.evaluate.figures import Figures, named
from training.evaluation.discovery import Box, corloc

Boxes = dict[str, list[Box]]


def true_boxes(images: Artifact, ids: Sequence[str]) -> Boxes:
    """Boxes by image id, of those images whose metadata have `boxes`: a list of [left, top, right, bottom], in shares
    of the upright picture's width and height. A list that holds anything else counts as none."""
    table = images.table(["image_id", "metadata"])
    rows = table.filter(pc.match_substring(pc.fill_null(table["metadata"], ""), '"boxes"'))
    wanted, found = set(ids), Boxes()
    for image_id, text in zip(rows["image_id"].to_pylist(), rows["metadata"].to_pylist(), strict=True):
        given = json.loads(text).get("boxes") if image_id in wanted else None
        given = json.loads(given) if isinstance(given, str) else given
        if isinstance(given, list) and given and all(_is_box(box) for box in given):
            found[image_id] = [(float(box[0]), float(box[1]), float(box[2]), float(box[3])) for box in given]
    return found


def discovery_figures(arrays: Mapping[str, NDArray[np.float64]], ids: Sequence[str], truth: Boxes) -> Figures:
    """`corloc_trained` and `corloc_untrained` with their intervals. arrays: (n, 4) boxes found, by contestant."""
    figures: Figures = {}
    for contestant in ("trained", "untrained"):
        if contestant in arrays:
            found = [(float(a), float(b), float(c), float(d)) for a, b, c, d in arrays[contestant]]
            share, (low, high) = corloc(found, [truth[image_id] for image_id in ids])
            figures |= named({"corloc": share, "corloc_lo": low, "corloc_hi": high}, contestant)
    return figures


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return False
    left, top, right, bottom = box
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1
