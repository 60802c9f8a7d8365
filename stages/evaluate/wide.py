"""What protocol v2 measures beyond plain probes: figures and the tables that go into the record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.evaluate import EvaluateParams
from stages.evaluate.boxes import Boxes, discovery_figures
from stages.evaluate.figures import (
    Features,
    Figures,
    Problem,
    copy_figures,
    grid_figures,
    layer_rows,
    named,
    risk_figures,
    wide_figures,
)
from stages.evaluate.local import local_figures
from stages.evaluate.masks import Segmented
from stages.evaluate.robust import robustness
from training.evaluation.attentive_probe import attentive_probe
from training.evaluation.calibration import calibration
from training.evaluation.probe import Predictions
from training.evaluation.protocol import WideProtocol

_HEADS = (8, 6, 4, 3, 2)


@dataclass(frozen=True)
class Measured:
    """All that figures are made of.

    layers: (bank + queries, D) by name. patches: (bank + queries, P, D) or None. passes: arrays of the further passes
    by name. shown: ids of the decodable images of each group that a pass was shown. boxes: true ones by image id.
    segmentation: where images have masks.
    """

    problem: Problem
    predictions: Mapping[str, Predictions]
    layers: Features
    patches: NDArray[np.float16] | None
    passes: Mapping[str, Mapping[str, NDArray[Any]]]
    shown: Mapping[str, Sequence[str]]
    boxes: Boxes
    segmentation: Segmented | None = None


def wide_record(measured: Measured, params: EvaluateParams, *, trained_on: bool) -> tuple[Figures, dict[str, Any]]:
    """Flat figures and tables by name. trained_on: whether the backbone has seen the bank of the split."""
    problem, protocol = measured.problem, measured.problem.protocol
    assert isinstance(protocol, WideProtocol)
    views = {name: x for name, x in measured.passes.get("views", {}).items() if name != "decoded" and len(x) > 1}
    figures, tables = wide_figures(problem, measured.predictions, views), dict[str, Any]()
    if views:
        place = {image_id: row for row, image_id in enumerate(problem.split.bank)}
        figures |= copy_figures(problem, views, np.array([place[i] for i in measured.shown["views"]]))
    found, tables["local"] = local_figures(measured.passes.get("tokens", {}), problem.seed)
    figures |= found
    if "discovery" in measured.passes:
        figures |= discovery_figures(measured.passes["discovery"], measured.shown["boxed"], measured.boxes)
    if measured.segmentation is not None:
        figures |= measured.segmentation.figures
        tables["segmentation"] = measured.segmentation.table
    if not measured.predictions:
        return figures, tables
    tables["calibration"] = {
        name: _reliability(predicted, problem.truth, protocol.bins) for name, predicted in measured.predictions.items()
    }
    if trained_on and params.bank == "train":
        figures |= risk_figures(problem)
    if measured.layers:
        tables["layers"] = layer_rows(problem, measured.layers, measured.predictions["trained"])
    if any(name.startswith("block_") for name in measured.layers):
        found, tables["grid"] = grid_figures(problem, measured.layers)
        figures |= found
    if measured.patches is not None:
        found, tables["attentive"] = _attentive(problem, measured.patches, protocol.attentive_rows)
        figures |= found
    found, tuned = _tuned(problem, measured.passes, params.fine_tune)
    figures |= found
    tables |= {"fine_tune": tuned} if tuned else {}
    if params.robustness != "none":
        settings = protocol.quick if params.robustness == "quick" else protocol.full
        found, tables["robustness"] = robustness(
            problem, measured.predictions, measured.passes, measured.shown["shifted"], settings, params.robustness
        )
        figures |= found
    return figures, tables


def _reliability(predicted: Predictions, truth: NDArray[np.int64], bins: int) -> dict[str, Any]:
    """The bins of the linear probe's reliability diagram."""
    found = calibration(predicted.probabilities, truth, bins=bins, resamples=1)
    return {name: getattr(found, name).tolist() for name in ("confidence", "accuracy", "rows")}


def _attentive(problem: Problem, patches: NDArray[np.float16], most: int) -> tuple[Figures, dict[str, Any]]:
    count, generator = len(problem.split.bank), np.random.default_rng(problem.seed)
    rows = np.arange(count) if count <= most else np.sort(generator.choice(count, most, replace=False))
    found = attentive_probe(
        torch.from_numpy(patches[rows]),
        problem.labels[rows],
        torch.from_numpy(patches[count:]),
        heads=next((heads for heads in _HEADS if patches.shape[2] % heads == 0), 1),
        seed=problem.seed,
    )
    rate, decay = found.setting
    table = {"learning_rate": rate, "weight_decay": decay, "rows": len(rows)}
    return named(problem.scored("attentive", found.predictions), "trained"), table


def _tuned(
    problem: Problem, passes: Mapping[str, Mapping[str, NDArray[Any]]], how: str
) -> tuple[Figures, dict[str, Any]]:
    figures: Figures = {}
    table = {}
    for name, arrays in passes.items():
        if name.startswith("fine_tune-") and "predictions" in arrays:
            contestant = name.removeprefix("fine_tune-")
            probe = "finetune" if how == "full" else "partial"
            figures |= named(problem.scored(probe, arrays["predictions"]), contestant)
            table[contestant] = {"losses": arrays["losses"].tolist(), **json.loads(str(arrays["told"]))}
    return figures, table
