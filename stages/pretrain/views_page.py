"""`views.html`: a few images as the objective sees them, every view with its place and what is hidden of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from curation.review_page import PageSection, Thumbnails, page_html, paragraph, table_html
from stages.inline_pictures import COLOURS, STYLE, box_svg, cells_path, picture_src, shot_html
from training.backbones.building import build_backbone
from training.backbones.names import patch_size
from training.decoding import Canvas, UndecodableError, canvas
from training.hidden_patches import Crop, HiddenPatches, hidden_patches
from training.objectives import catalogue
from training.objectives.base import StepState
from training.order import steps_per_epoch
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe, for_view
from training.shards import ShardReader
from training.view_parameters import ViewParameters
from training.views import Views, make_views

_IMAGES = 8
_TILES = 12
_MOST_EPOCHS = 3
_ORIGINAL, _GLOBAL, _LOCAL = 150, 84, 58
_MASK = "#6d7686"
_TROUBLE = (ValueError, TypeError, AttributeError, LookupError, AssertionError, RuntimeError)
"""What an objective that is not ours may raise on a backbone that it does not expect: no reason to end a training."""
_STYLE = (
    STYLE
    + """
.sample { display: flex; gap: 14px; padding: 8px 0; border-top: 1px solid var(--line); }
.whole { flex: 0 0 150px; }
.epochs { flex: 1; min-width: 0; display: flex; flex-wrap: wrap; gap: 4px 16px; align-content: flex-start; }
.epochs .row { margin: 2px 0 0; }
.epochs small { color: var(--soft); }
#masks:not(:checked) ~ main .mask { display: none; }
"""
)


@dataclass(frozen=True)
class _Look:
    """The views of one epoch. hidden: of each crop that is not seen whole."""

    views: Views
    hidden: dict[Crop, list[HiddenPatches]]


def views_page(reader: ShardReader, plan: PretrainingPlan) -> str:
    """The HTML page: of up to 8 images the original with the boxes of its views, then the views that are trained on.

    Masks are those of the training itself, since views and masks are functions of sample and epoch. Objectives with
    few views are shown over several epochs.
    """
    rows, canvases = _samples(reader, plan.canvas_size)
    looks, trouble = _looks(plan, rows, canvases) if rows else ([], "")
    lead, body = _lead(plan), ""
    masked = any(look.hidden for look in looks)
    if masked:
        lead += '<input id="masks" type="checkbox" checked> <label for="masks">Show masks</label>'
        body += paragraph(_mask_words(looks))
    if trouble:
        body += paragraph(f"What is hidden could not be drawn: {trouble}")
    body += "".join(
        _sample(reader, row, picture, index, looks)
        for index, (row, picture) in enumerate(zip(rows, canvases, strict=True))
    )
    sections = [
        PageSection("views", "Views", body or paragraph("No sample of the shards can be decoded.")),
        PageSection("recipe", "How they are made", table_html(["", "setting"], _recipe(plan), numeric_from=2)),
    ]
    return page_html(f"What {plan.objective['name']} sees", lead, sections, Thumbnails(_GLOBAL), _STYLE)


def _samples(reader: ShardReader, size: int) -> tuple[list[int], list[Canvas]]:
    """Rows and pictures of samples spread over the shards; the next one stands in for what cannot be decoded."""
    rows: list[int] = []
    canvases: list[Canvas] = []
    spread = np.linspace(0, len(reader), _IMAGES, endpoint=False).astype(int)
    for row in dict.fromkeys([*spread.tolist(), *range(min(len(reader), 4 * _IMAGES))]):
        try:
            canvases.append(canvas(*reader.encoded(row), size))
            rows.append(row)
        except UndecodableError:
            continue
        if len(rows) == _IMAGES:
            break
    return rows, canvases


def _looks(plan: PretrainingPlan, rows: Sequence[int], canvases: Sequence[Canvas]) -> tuple[list[_Look], str]:
    """The views of as many epochs as there is room for, and why masks are missing where they are."""
    recipe = ViewRecipe(**plan.views)
    pixels = torch.from_numpy(np.stack([c.pixels for c in canvases]))
    aspects = np.array([c.aspect for c in canvases])
    steps = []
    for epoch in range(max(1, min(_MOST_EPOCHS, _TILES // recipe.views))):
        views = make_views(
            pixels, aspects, np.array(rows), recipe, size=plan.image_size,
            mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), seed=plan.seed, epoch=epoch,
        )  # fmt: skip
        step = epoch * steps_per_epoch(plan.rows, plan.batch)
        steps.append((views, StepState(step, plan.steps, epoch, plan.seed)))
    hidden, trouble = _hidden(plan, steps)
    return [_Look(views, found) for (views, _), found in zip(steps, hidden, strict=True)], trouble


def _hidden(
    plan: PretrainingPlan, steps: Sequence[tuple[Views, StepState]]
) -> tuple[list[dict[Crop, list[HiddenPatches]]], str]:
    nothing: list[dict[Crop, list[HiddenPatches]]] = [{} for _ in steps]
    parts = catalogue.parts(plan.objective)
    if all(catalogue.describe(name)["backbone"] == "any" for name in parts):
        return nothing, ""
    try:
        return hidden_patches(plan.objective, steps, _patch(plan.backbone), plan.rows), ""
    except _TROUBLE as error:
        return nothing, f"{type(error).__name__}: {error}"


def _patch(backbone: dict[str, Any]) -> int:
    """Pixels along the side of a patch: as options or name say, else of the backbone itself."""
    side = backbone["kwargs"].get("patch_size", patch_size(backbone["name"]))
    if isinstance(side, int) and side > 1:
        return side
    with torch.random.fork_rng(devices=[]):
        return build_backbone({"backbone": backbone, "seed": 0}).patch


def _lead(plan: PretrainingPlan) -> str:
    known = catalogue.describe(plan.objective["name"])
    return paragraph(known["summary"]) + paragraph(
        "Left: an image with the places of its views in the first epoch. Right: the views as they are trained on, "
        "framed in the colours of their places."
    )


def _mask_words(looks: Sequence[_Look]) -> str:
    entries = [entry for look in looks for found in look.hidden.values() for entry in found]
    shares = [float(entry.hidden.mean()) for entry in entries]
    rows, columns = entries[0].hidden.shape
    ranging = f" ({100 * min(shares):.0f} to {100 * max(shares):.0f} %)" if min(shares) < max(shares) else ""
    crops = sum(len(look.hidden) for look in looks)
    words = (
        f"Covered patches are hidden: {100 * np.mean(shares):.0f} %{ranging} of the {rows} x {columns} patches of a "
        f"masked view. {crops} of {sum(len(look.views.crops) for look in looks)} full-size views are masked."
    )
    blocks = len(entries[0].targets)
    return words + (
        f" Outlined: the {blocks} blocks whose features are predicted from what is left." if blocks else ""
    )


def _sample(reader: ShardReader, row: int, picture: Canvas, index: int, looks: Sequence[_Look]) -> str:
    sample = reader.sample(row)
    name = sample.get("label") or next(iter(sample.get("captions") or []), "") or sample["image_id"][:12]
    original = shot_html(
        picture_src(picture.pixels.transpose(1, 2, 0)),
        _fitted(picture.aspect, _ORIGINAL),
        over="".join(_boxes(looks[0].views, index)),
        caption=str(name)[:80],
        title=f"{name}, row {row}",
    )
    epochs = "".join(_epoch(look, index, n + 1 if len(looks) > 1 else 0) for n, look in enumerate(looks))
    return f'<div class="sample"><div class="whole">{original}</div><div class="epochs">{epochs}</div></div>'


def _fitted(aspect: float, side: int) -> tuple[float, float]:
    return (side, side / aspect) if aspect > 1 else (side * aspect, side)


def _boxes(views: Views, index: int) -> list[str]:
    whole = views.full_size
    return [
        box_svg(views.boxes[view, index].tolist(), _colour(view), 2 if view < whole else 1.5, dashed=view >= whole)
        for view in range(len(views.parameters))
    ]


def _colour(view: int) -> str:
    return COLOURS[view % len(COLOURS)]


def _epoch(look: _Look, index: int, number: int) -> str:
    """The views of one image in one epoch; its number is told unless it is 0."""
    tiles, view = [], 0
    for group, crops in enumerate(look.views.groups):
        for place in range(index, len(crops), len(look.views.rows)):
            pixels = (crops[place] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            src = picture_src(pixels, 2 * _GLOBAL)
            words = _words(look.views.parameters[view], index)
            for cover in [_mask_svg(entry) for entry in look.hidden.get((group, place), [])] or [""]:
                tiles.append(
                    shot_html(
                        src,
                        (_LOCAL if group else _GLOBAL,) * 2,
                        over=cover,
                        colour=_colour(view),
                        caption=" · ".join(words),
                        title=f"view {view + 1}: {', '.join(words) or 'cropped'}",
                    )
                )
            view += 1
    name = f"<small>epoch {number}</small>" if number else ""
    return f'<div>{name}<div class="row">{"".join(tiles)}</div></div>'


def _words(drawn: ViewParameters, index: int) -> list[str]:
    """What was done to one view of one image."""
    coloured = any(getattr(drawn, name)[index] != 1 for name in ("brightness", "contrast"))
    grey = drawn.saturation[index] == 0
    found = [
        ("mirrored", drawn.flipped[index]),
        ("grey", grey),
        ("colours", coloured and not grey),
        (f"blur {drawn.sigmas[index]:.1f}", drawn.sigmas[index] > 0),
        ("solarised", drawn.solarised[index]),
    ]
    return [word for word, done in found if done]


def _mask_svg(entry: HiddenPatches) -> str:
    cover = f'<path d="{cells_path(entry.hidden)}" fill="{_MASK}" fill-opacity=".9"/>'
    blocks = "".join(_block(block, COLOURS[(n + 1) % len(COLOURS)]) for n, block in enumerate(entry.targets))
    return f'<g class="mask">{cover}{blocks}</g>'


def _block(block: np.ndarray, colour: str) -> str:
    """The outline of a target block, which is a rectangle of patches."""
    down, across = np.flatnonzero(block.any(axis=1)), np.flatnonzero(block.any(axis=0))
    rows, columns = block.shape
    box = (across[0] / columns, down[0] / rows, (across[-1] + 1) / columns, (down[-1] + 1) / rows)
    return box_svg(box, colour)


def _recipe(plan: PretrainingPlan) -> list[tuple[str, str]]:
    """The distributions that views are drawn from, in words; what never happens is left out."""
    r = ViewRecipe(**plan.views)

    def area(low: float, high: float) -> str:
        return f"{100 * low:.0f} to {100 * high:.0f} % of the area" if r.resize else "cut without resizing"

    def chance(given: float | Sequence[float]) -> str:
        shares = [for_view(given, view) for view in range(r.views)]
        return (
            f"{100 * shares[0]:.0f} %"
            if len(set(shares)) == 1
            else ", ".join(f"{100 * s:.0f}" for s in shares) + " % by view"
        )

    jitter = f"brightness {r.brightness:g}, contrast {r.contrast:g}, saturation {r.saturation:g}, hue {r.hue:g}"
    rows = [
        ("crops", f"{r.crops} of {plan.image_size} px, {area(r.scale_min, r.scale_max)}", True),
        (
            "local crops",
            f"{r.local_crops} of {r.local_size} px, {area(r.local_scale_min, r.local_scale_max)}",
            r.local_crops,
        ),
        (
            "cut from",
            f"pictures squeezed to {plan.canvas_size} x {plan.canvas_size} px, drawn here in their own shape",
            True,
        ),
        ("mirrored", chance(r.flip), r.flip),
        ("colours changed", f"{chance(r.jitter)}: {jitter}", r.jitter),
        ("grey", chance(r.grey), r.grey),
        ("blurred", f"{chance(r.blur)}, sigma {r.blur_sigma_min:g} to {r.blur_sigma_max:g} px", np.any(r.blur)),
        ("solarised", chance(r.solarise), np.any(r.solarise)),
        ("colours", "the same in all views of an image", r.shared_colour),
    ]
    return [(name, text) for name, text, shown in rows if shown]
