"""Sections on what probes make of the features: all of them, and those with few labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from curation.review_page import PageSection, paragraph, table_html
from stages.charts import Line, dots_chart, line_chart
from stages.evaluate.pages.contestants import COLOURS, Metrics, interval_words, key_html, marks

_PROBES = {
    "knn": "kNN",
    "linear": "linear",
    "ridge": "ridge",
    "interpolation": "kNN and linear mixed",
    "grid": "linear, grid of heads on layers",
    "attentive": "attentive",
    "partial": "fine-tuned, last blocks",
    "finetune": "fine-tuned",
    "map": "retrieval, mAP",
    "recall_1": "retrieval, recall at 1",
    "copy_micro_ap": "copy detection, AP",
}
_BACKBONES = ("trained", "untrained")
_FEW = re.compile(r"(\d+)_(shot|percent)_trained$")


def probes_section(metrics: Metrics, tuned: Mapping[str, Any] | None = None) -> PageSection | None:
    """Every probe of every contestant with its interval, and what training has brought.

    tuned: `fine_tune` of the record: losses by contestant.
    """
    rows = [(label, probe) for probe, label in _PROBES.items() if f"{probe}_trained" in metrics]
    if not rows:
        return None
    chart = dots_chart([(label, marks(metrics, probe)) for label, probe in rows], 0, 1)
    table = table_html(
        ["", "trained", "gain over untrained", "untrained", "pixels"],
        [
            [
                label,
                interval_words(metrics, f"{probe}_trained"),
                interval_words(metrics, f"{probe}_gain_over_untrained", "+"),
                *(interval_words(metrics, f"{probe}_{name}") for name in ("untrained", "pixels")),
            ]
            for label, probe in rows
        ],
    )
    told = "Accuracy on held-out images, with 95 % intervals."
    if "chance" in metrics:
        told += f" Always saying the commonest class gives {metrics['chance']:.3f}."
    body = paragraph(told) + key_html() + chart + table + _by_k(metrics) + _tuning(tuned or {})
    return PageSection("probes", "Probes", body)


def _by_k(metrics: Metrics) -> str:
    by_k = {
        int(found[1]): share for name, share in metrics.items() if (found := re.fullmatch(r"knn_(\d+)_trained", name))
    }
    if len(by_k) < 2:
        return ""
    return paragraph("kNN by k: " + ", ".join(f"{k}: {share:.3f}" for k, share in sorted(by_k.items())))


def _tuning(tuned: Mapping[str, Any]) -> str:
    """The losses of fine-tuning."""
    lines = [
        Line(name, list(enumerate(tuned[name]["losses"], 1)), COLOURS[name]) for name in _BACKBONES if name in tuned
    ]
    chart = line_chart("Fine-tuning", lines, note="Training loss by epoch.")
    return f'<div class="charts">{chart}</div>' if chart else ""


def labels_section(metrics: Metrics, bank: int, classes: int) -> PageSection | None:
    """How accuracy grows with the number of labels. bank, classes: how many images and classes there are in all."""
    steps: dict[str, tuple[int, str]] = {}
    for name in metrics:
        if found := _FEW.match(name):
            count, percent = int(found[1]), found[2] == "percent"
            labels = max(classes, round(count * bank / 100)) if percent else count * classes
            steps[f"{count}_{found[2]}"] = labels, f"{count} % of all" if percent else f"{count} a class"
    if len(steps) < 2:
        return None
    if "ridge_trained" in metrics:
        steps["ridge"] = bank, "all"
    steps = dict(sorted(steps.items(), key=lambda item: (item[1][0], item[0].endswith("percent"))))
    # a share of a small set comes to as many labels as some a class, drawn otherwise: a line takes one of the two
    first: dict[int, str] = {}
    for step, (labels, _) in steps.items():
        first.setdefault(labels, step)
    drawn = {step: steps[step] for step in first.values()}
    lines = [_line(metrics, contestant, drawn) for contestant in _BACKBONES]
    ends = [labels for labels, _ in drawn.values()]
    top = max(bound[2] for line in lines for bound in line.bounds) if any(line.bounds for line in lines) else 1.0
    chart = line_chart(
        "Accuracy by number of labels",
        lines,
        note="A closed-form ridge probe, over several draws of the labels.",
        y_range=(0.0, min(1.0, top)),
        x_ticks={math.log(count): f"{count:,}" for count in (ends[0], ends[-1])},
    )
    rows = [
        [text, f"{labels:,}", *(interval_words(metrics, f"{step}_{name}") for name in _BACKBONES)]
        for step, (labels, text) in steps.items()
    ]
    table = table_html(["labels", "in all", *_BACKBONES], rows)
    return PageSection("labels", "Few labels", f'<div class="charts">{chart}</div>{table}')


def _line(metrics: Metrics, contestant: str, steps: Mapping[str, tuple[int, str]]) -> Line:
    """Over the logarithm of the number of labels."""
    places = [
        (math.log(labels), name) for step, (labels, _) in steps.items() if (name := f"{step}_{contestant}") in metrics
    ]
    bounds = [(x, metrics[f"{name}_lo"], metrics[f"{name}_hi"]) for x, name in places if f"{name}_lo" in metrics]
    return Line(contestant, [(x, metrics[name]) for x, name in places], COLOURS[contestant], bounds)
