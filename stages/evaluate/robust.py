"""Figures of changed pictures: what the shifted features of the passes say through probes fitted on clean ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluate.figures import Figures, Problem, named
from training.evaluation.bootstrap import mean_interval
from training.evaluation.corruptions.catalogue import CORRUPTIONS
from training.evaluation.invariance import invariance_scores
from training.evaluation.probe import Predictions
from training.evaluation.protocol import RobustnessSettings
from training.evaluation.robustness import Shifted, mean_corruption_error, shifted_rows, summary

Arrays = Mapping[str, NDArray[Any]]
_BACKBONES = ("trained", "untrained")


def robustness(
    problem: Problem,
    predictions: Mapping[str, Predictions],
    passes: Mapping[str, Arrays],
    shifted: Sequence[str],
    settings: RobustnessSettings,
    mode: str,
) -> tuple[Figures, dict[str, Any]]:
    """Flat figures, and tables for the record: the rows of every shift by contestant, `corruption_error`,
    `invariance`, `shortcut` and `self_learning`.

    passes: arrays by pass. shifted: ids of the queries that were shifted. mode: "quick" or "full"; figures of the
    quick one say so in their names, since they are of other corruptions.
    """
    mark = "" if mode == "full" else f"_{mode}"
    truth_of = dict(zip(problem.split.queries, problem.split.query_labels, strict=True))
    truth = np.array([truth_of[image_id] for image_id in shifted if image_id in truth_of], dtype=np.int64)
    moved = {
        key: values for name, arrays in passes.items() if name.startswith("shifts-") for key, values in arrays.items()
    }
    figures: Figures = {}
    tables: dict[str, Any] = {"mode": mode, "images": len(truth)}
    rows: dict[str, list[Shifted]] = {}
    for contestant in _BACKBONES if len(truth) else ():
        by_shift = {key.partition(":")[2]: x for key, x in moved.items() if key.startswith(f"{contestant}:")}
        probe = predictions[contestant].fitted
        assert probe is not None
        found = {name: probe.classes_of(values) for name, values in by_shift.items()}
        rows[contestant] = shifted_rows(found.pop("clean"), found, truth, seed=problem.seed)
        right = np.mean([found[name] == truth for name in found if name.rpartition("_")[0] in CORRUPTIONS], axis=0)
        low, high = mean_interval(right, seed=problem.seed)
        own = dict(summary(rows[contestant])) | {"corrupted_lo": low, "corrupted_hi": high}
        figures |= named({name.replace("corrupted", f"corrupted{mark}"): v for name, v in own.items()}, contestant)
        tables[contestant] = [asdict(row) for row in rows[contestant]]
    if rows:
        errors = mean_corruption_error(rows["trained"], rows["untrained"])
        figures |= {f"mce{mark}": errors.mce, f"mce_relative{mark}": errors.relative}
        tables["corruption_error"] = errors.by_corruption
    for own_figures, further in (
        _invariances(problem, passes, settings, mark),
        _shortcut(passes, mark),
        _learned(passes),
    ):
        figures |= own_figures
        tables |= further
    return {name: value for name, value in figures.items() if np.isfinite(value)}, tables


def _invariances(
    problem: Problem, passes: Mapping[str, Arrays], settings: RobustnessSettings, mark: str
) -> tuple[Figures, dict[str, Any]]:
    found: dict[str, Any] = {}
    figures: Figures = {}
    for contestant in _BACKBONES:
        views = {
            name.removeprefix("invariance-"): arrays[f"{contestant}:{name.removeprefix('invariance-')}"]
            for name, arrays in passes.items()
            if name.startswith("invariance-") and f"{contestant}:{name.removeprefix('invariance-')}" in arrays
        }
        plain = views.pop("none", None)
        if plain is None or len(plain) < 2:
            continue
        if (plain == plain[0]).all():
            continue  # of features that are all alike no unit answers to anything
        scores = invariance_scores(plain[:, 0], views, rate=settings.firing_rate, seed=problem.seed)
        found[contestant] = {name: asdict(score) for name, score in scores.items()}
        for name, score in scores.items():
            own = {"": score.firing, "_lo": score.interval[0], "_hi": score.interval[1]}
            figures |= named({f"invariance_{name}{mark}{suffix}": value for suffix, value in own.items()}, contestant)
    return figures, {"invariance": found} if found else {}


def _shortcut(passes: Mapping[str, Arrays], mark: str) -> tuple[Figures, dict[str, Any]]:
    table: dict[str, Any] = {name: json.loads(str(a)) for name, a in _stated(passes.get("shortcut", {})).items()}
    figures: Figures = {}
    for contestant, found in table.items():
        low, high = found["reliance_interval"]
        own = {"": found["reliance"], "_lo": low, "_hi": high}
        figures |= named({f"shortcut_reliance{mark}{suffix}": value for suffix, value in own.items()}, contestant)
    return figures, {"shortcut": table} if table else {}


def _learned(passes: Mapping[str, Arrays]) -> tuple[Figures, dict[str, Any]]:
    figures: Figures = {}
    table = {}
    for name, arrays in passes.items():
        for found in _stated(arrays).values() if name.startswith("self_learning-") else ():
            shift, own = name.removeprefix("self_learning-"), json.loads(str(found))
            low, high = own["gain_interval"]
            gains = {"": own["gain"], "_lo": low, "_hi": high}
            figures |= {f"self_learning_gain_{shift}{suffix}": value for suffix, value in gains.items()}
            table[shift] = own
    return figures, {"self_learning": table} if table else {}


def _stated(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name: values for name, values in arrays.items() if name != "decoded"}
