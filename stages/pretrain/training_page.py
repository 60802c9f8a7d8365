"""`training.html`: the course of a training, its sentinels, and what the collapse doctor said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from curation.review_page import PageSection, Thumbnails, page_html, paragraph, table_html
from stages.charts import STYLE, Line, line_chart
from stages.inline_pictures import COLOURS
from training.collapse import REMEDIES
from training.evaluation.checkpoint_ranking import ranking_table
from training.plan import PretrainingPlan

_POINTS = 300
_MOMENTS = 1000
_PART = "grad_norm/"

_GROUPS: dict[str, dict[str, str]] = {
    "Learning": {
        "loss": "What is minimised. Losses of different objectives say nothing about each other.",
        "knn": "Accuracy of 20 nearest neighbours on training samples: compares moments of this training alone.",
        "rankme": "In how many directions the features of whole images spread (RankMe).",
        "lr": "Learning rate.",
        "weight_decay": "Weight decay.",
    },
    "Sentinels": {
        "feature_std": "Spread of the features on the sphere: near 1 is even, below 0.1 is a complete collapse.",
        "feature_rank": "Directions in which a batch's features differ: below 2 is a dimensional collapse.",
        "prototype_usage": "Share of the prototypes that images are assigned to: below 0.3 most are idle.",
        "target_entropy": "Entropy of the targets over its maximum: near 1 they say nothing, near 0 they are sure.",
        "target_std": "Spread of the features that are predicted: 0 is a collapse.",
        "koleo": "KoLeo's loss: it shoots up where images of a batch are all but equal.",
        "grad_norm": "Length of the gradient of all parameters.",
        "loss_scale": "Factor on the loss in half precision: it falls where gradients overflow.",
    },
    "Speed": {
        "images_per_s": "Images a second, with waiting and checkpoints.",
        "waiting": "Share of the time that is spent on waiting for data and checkpoints.",
        "memory_gb": "Highest memory so far.",
    },
}
_LOG = {"grad_norm", "loss_scale"}
_SHARES = {"knn", "prototype_usage", "target_entropy"}
_SILENT = {"step", "epoch", "eta_s", "diagnoses"}


def training_page(
    plan: PretrainingPlan, lines: Sequence[Mapping[str, Any]], left_out: Sequence[Mapping[str, Any]]
) -> str:
    """The HTML page of the lines of a history. left_out: steps whose loss or gradients were not finite."""
    shown = _thinned(lines)
    spans = {
        name: _spans(lines, name) for name in REMEDIES if any(name in line.get("diagnoses", ()) for line in lines)
    }
    shaded = [span for own in spans.values() for span in own]
    known = {name for group in _GROUPS.values() for name in group}
    terms = [
        name
        for name in dict.fromkeys(name for line in shown for name in line)
        if name not in known | _SILENT and not name.startswith(_PART)
    ]
    groups = {
        "Learning": _GROUPS["Learning"],
        "Parts of the loss": dict.fromkeys(terms, ""),
        "Sentinels": _GROUPS["Sentinels"],
        "Speed": _GROUPS["Speed"],
    }
    sections = [PageSection("diagnoses", "Diagnoses", _diagnoses(spans, left_out) + _ranking(lines))]
    for title, names in groups.items():
        charts = "".join(_chart(name, note, shown, shaded) for name, note in names.items())
        charts += _parts(shown, shaded) if title == "Sentinels" else ""
        if charts:
            sections.append(PageSection(title.split()[0].lower(), title, f'<div class="charts">{charts}</div>'))
    steps = lines[-1]["step"] if lines else 0
    lead = paragraph(
        f"{plan.objective['name']} on {plan.backbone['name']}: {steps:,} of {plan.steps:,} steps of {plan.batch} "
        "images."
    )
    return page_html("Training", lead, sections, Thumbnails(), STYLE)


def _thinned(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Evenly chosen lines, the last one and all that look at features or diagnose something among them."""
    every = max(1, -(-len(lines) // _POINTS))
    return [
        line
        for n, line in enumerate(lines)
        if (len(lines) - 1 - n) % every == 0 or "rankme" in line or line.get("diagnoses")
    ]


def _spans(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Ranges of steps in which an ailment was diagnosed in successive lines."""
    found: list[tuple[float, float]] = []
    ill = False
    for line in lines:
        if name in line.get("diagnoses", ()):
            found.append((found.pop()[0] if ill else line["step"], line["step"]))
            ill = True
        else:
            ill = False
    return found


def _diagnoses(spans: Mapping[str, Sequence[tuple[float, float]]], left_out: Sequence[Mapping[str, Any]]) -> str:
    if spans:
        rows = [(name, ", ".join(_range(*span) for span in own), REMEDIES[name]) for name, own in spans.items()]
        found = table_html(["diagnosis", "steps (shaded red below)", "what to do"], rows, numeric_from=3)
    else:
        found = paragraph("The collapse doctor found nothing: features spread, and every part gets gradients.")
    if left_out:
        steps = ", ".join(str(entry["step"]) for entry in left_out)
        found += paragraph(f"Left out, since the loss or gradients were not finite: step {steps} (nonfinite.jsonl).")
    return found


def _range(first: float, last: float) -> str:
    return f"{first:.0f}" if first == last else f"{first:.0f} to {last:.0f}"


def _ranking(lines: Sequence[Mapping[str, Any]]) -> str:
    """Whether the loss and label-free figures order the moments of this training as the kNN accuracy does."""
    looks = [line for line in lines if "knn" in line]
    looks = looks[:: -(-len(looks) // _MOMENTS) or 1]
    rows = [
        (
            str(row["measure"]),
            f"{row['spearman']:+.2f} ({row['spearman_lo']:+.2f} .. {row['spearman_hi']:+.2f})",
            f"{row['kendall']:+.2f}",
            f"{row['checkpoints']:.0f}",
        )
        for row in ranking_table(looks, ["loss", "rankme", "feature_std", "feature_rank"], ["knn"])
        if math.isfinite(float(row["spearman"]))
    ]
    if not rows:
        return ""
    return (
        "<h3>What follows the kNN accuracy</h3>"
        + paragraph(
            "Rank correlation with the kNN accuracy over the moments of this training. A loss that can be trusted to "
            "choose a checkpoint is near -1."
        )
        + table_html(["figure", "Spearman (95 %)", "Kendall", "moments"], rows)
    )


def _chart(name: str, note: str, lines: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]) -> str:
    points = [(line["step"], float(line[name])) for line in lines if name in line]
    if not points:
        return ""
    whole = (0.0, 1.0) if name in _SHARES else None
    title, line = f"{name}: {points[-1][1]:.4g}", Line(name, points)
    return line_chart(title, [line], note=note, spans=spans, log=name in _LOG, y_range=whole)


def _parts(lines: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]) -> str:
    """The gradient norms of the backbone and every head in one chart."""
    names = list(dict.fromkeys(name for line in lines for name in line if name.startswith(_PART)))
    curves = [
        Line(
            name.removeprefix(_PART),
            [(line["step"], float(line[name]) or math.nan) for line in lines if name in line],
            COLOURS[n % len(COLOURS)],
        )
        for n, name in enumerate(names)
    ]
    return line_chart(
        "grad_norm of each part", curves, note="A part without gradient learns nothing.", spans=spans, log=True
    )
