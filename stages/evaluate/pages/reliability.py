"""The section that says whether a probe that is sure of 80 % gets 80 % right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from curation.review_page import PageSection, paragraph
from stages.charts import Line, line_chart
from stages.evaluate.pages.contestants import COLOURS, Metrics, interval_words
from stages.evaluate.split import Split
from training.evaluation.calibration import calibration
from training.evaluation.intervals import wilson_interval
from training.evaluation.probe import Predictions

_RESAMPLES = 200


def reliability_section(split: Split, predictions: Mapping[str, Predictions], metrics: Metrics) -> PageSection | None:
    """Accuracy of the linear probe by its confidence, for each contestant."""
    truth = np.array(split.query_labels, dtype=np.int64)
    charts = ""
    for name, predicted in predictions.items():
        found = calibration(predicted.probabilities, truth, resamples=_RESAMPLES)
        full = np.flatnonzero(found.rows)
        right = np.rint(found.accuracy[full] * found.rows[full]).astype(int)
        ends = [wilson_interval(int(r), int(n)) for r, n in zip(right, found.rows[full], strict=True)]
        sure = found.confidence[full].tolist()
        told = interval_words(metrics, f"ece_{name}") or f"{found.error:.3f}"
        charts += line_chart(
            name,
            [
                Line(
                    "accuracy",
                    list(zip(sure, found.accuracy[full].tolist(), strict=True)),
                    COLOURS[name],
                    [(x, low, high) for x, (low, high) in zip(sure, ends, strict=True)],
                ),
                Line("as sure as right", [(0, 0), (1, 1)], "var(--soft)", dotted=True),
            ],
            note=f"Calibration error {told}, {found.rows.sum()} queries.",
            y_range=(0, 1),
        )
    if not charts:
        return None
    note = "Accuracy of the linear probe over its confidence. Below the dotted line it is surer than it is right."
    return PageSection("reliability", "Reliability", paragraph(note) + f'<div class="charts">{charts}</div>')
