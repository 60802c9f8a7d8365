"""What `metrics.json` says of one split."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stages.evaluate import EvaluateParams
from stages.evaluate.figures import PROBES, plain_figures
from stages.evaluate.wide import Measured, wide_record
from training.evaluation.accuracy import class_accuracy, confusion_matrix
from training.evaluation.protocol import WideProtocol


def record_of(measured: Measured, params: EvaluateParams, undecodable: int, *, trained_on: bool) -> dict[str, Any]:
    """Everything that is told, floats cut to six digits so that it is the same on every machine.

    trained_on: whether the backbone has seen the bank of the split.
    """
    problem, predictions = measured.problem, measured.predictions
    split, protocol = problem.split, problem.protocol
    truth, classes = problem.truth, len(split.classes)
    metrics, tables = plain_figures(problem, predictions), dict[str, Any]()
    if isinstance(protocol, WideProtocol):
        figures, tables = wide_record(measured, params, trained_on=trained_on)
        metrics |= figures
    rows: list[dict[str, Any]] = [
        {"name": name, "bank": split.bank_labels.count(c), "queries": split.query_labels.count(c)}
        for c, name in enumerate(split.classes)
    ]
    for contestant, predicted in predictions.items():
        for probe in PROBES:
            for row, share in zip(rows, class_accuracy(truth, getattr(predicted, probe), classes), strict=True):
                row[f"{probe}_{contestant}"] = None if np.isnan(share) else float(share)
    record = {
        "protocol": protocol.settings(),
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "classes": rows,
        "split": {
            "digests": split.digests(),
            "seed": params.seed,
            "bank": len(split.bank),
            "queries": len(split.queries),
            "left_out": split.left_out,
            "undecodable": undecodable,
            "note": split.note,
        },
        "probes": {name: predicted.details for name, predicted in predictions.items()},
        "confusion": {
            probe: confusion_matrix(truth, getattr(predictions["trained"], probe), classes).tolist()
            for probe in PROBES
            if predictions
        },
        **tables,
    }
    return _six_digits(record)


def _six_digits(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _six_digits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_six_digits(item) for item in value]
    return value
