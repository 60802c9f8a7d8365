"""The section of objects that patch features alone find, with the true boxes where they are known."""

from __future__ import annotations

from collections.abc import Sequence

from curation.review_page import PageSection, paragraph
from stages.evaluate.boxes import true_boxes
from stages.evaluate.evaluated import Evaluated, TokenSamples
from stages.evaluate.pages.contestants import interval_words
from stages.inline_pictures import box_svg, shot_html
from training.evaluation.discovery import lost

_TILE = 104
_TRAINED, _UNTRAINED, _TRUE = "#2f6fde", "#9aa3b2", "#2e8b57"


def objects_section(evaluated: Evaluated, samples: TokenSamples, names: Sequence[str]) -> PageSection:
    """LOST's box of each sample by either backbone. The page's style holds the pictures as p0, p1, ..."""
    truth = true_boxes(evaluated.images, samples.ids)
    tiles = ""
    for n, (image_id, name) in enumerate(zip(samples.ids, names, strict=True)):
        boxes = "".join(box_svg(box, _TRUE) for box in truth.get(image_id, []))
        boxes += box_svg(lost(samples.untrained_patches[n]).box, _UNTRAINED, dashed=True)
        boxes += box_svg(lost(samples.patches[n]).box, _TRAINED, 2.5)
        tiles += shot_html("", (_TILE, _TILE), shared=f"p{n}", over=boxes, caption=name)
    metrics = evaluated.record["metrics"]
    words = {name: interval_words(metrics, f"corloc_{name}") for name in ("trained", "untrained")}
    told = "; ".join(f"{name} {share}" for name, share in words.items() if share)
    note = (
        "The box that LOST (arXiv:2109.14279) finds without labels: patches that resemble the fewest others seed an "
        "object. Blue: trained; grey: untrained" + ("; green: true boxes." if truth else ".")
    )
    note += f" Images with such a box on a true one (CorLoc): {told}." if told else ""
    return PageSection("objects", "Objects", paragraph(note) + f'<div class="row">{tiles}</div>')
