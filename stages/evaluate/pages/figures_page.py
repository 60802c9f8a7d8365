"""`figures.html`: every figure of an evaluation as a chart or a table, with its interval."""

from __future__ import annotations

from collections.abc import Mapping

from curation.review_page import Thumbnails, page_html, paragraph
from stages.charts import STYLE
from stages.evaluate.evaluated import Evaluated
from stages.evaluate.pages.classes import classes_section
from stages.evaluate.pages.label_free import label_free_section
from stages.evaluate.pages.layers import layers_section
from stages.evaluate.pages.probes import labels_section, probes_section
from stages.evaluate.pages.reliability import reliability_section
from stages.evaluate.pages.shifts import shifts_section
from stages.evaluate.wide_report import cost_lines


def figures_page(evaluated: Evaluated, costs: Mapping[str, float] | None = None) -> str:
    """The HTML page; sections of what was not measured are absent. costs: of `cost_lines`, where they are known."""
    record, split = evaluated.record, evaluated.split
    metrics = record["metrics"]
    sections = [
        probes_section(metrics, record.get("fine_tune")),
        classes_section(record["classes"]),
        labels_section(metrics, len(split.bank), len(split.classes)),
        reliability_section(split, evaluated.predictions, metrics),
        layers_section(record.get("layers") or [], record.get("grid") or {}),
        shifts_section(record.get("robustness") or {}),
        label_free_section(metrics),
    ]
    told = f"{len(split.bank):,} images to learn from, {len(split.queries):,} held out, by {record['protocol']['id']}."
    lead = paragraph(told + (f" {split.note}." if split.note else ""))
    lead += paragraph(cost_lines(costs)[-1]) if costs else ""
    return page_html("Evaluation", lead, [section for section in sections if section is not None], Thumbnails(), STYLE)
