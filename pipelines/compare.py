"""`curatrain compare`: one spec in many variants, alike but for what is compared, and one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.compare_axes import seconds_of
from pipelines.errors import UsageError
from pipelines.grid import Axis, Changes, Grid, check_axes, expand_grid, merged
from pipelines.overrides import apply_overrides
from pipelines.spec import Spec, load_document, load_spec

_PROBES = ("knn", "linear")
_SHORTEST = 20
_NO_COST = ("uses", "inputs", "seed", "epochs", "steps")

StepSeconds = Callable[[Mapping[str, Any]], float]
"""Seconds that a step of a training takes, from the parameters of its pretrain stage."""


def comparison_spec(
    source: str | Path | Mapping[str, Any],
    selections: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    seeds: int = 3,
    axes: Sequence[Axis] = (),
    overrides: Iterable[str] = (),
    step_seconds: StepSeconds | None = None,
    memorisation: bool = False,
) -> Spec:
    """A spec that trains and evaluates every variant with every seed, and ends in a stage that compares them.

    selections: names with the parameters of curate that each changes; none for the spec's own. axes: further ones,
    such as budgets, objectives or views; an axis with one value is a setting for all. overrides:
    `STAGE.PARAM=VALUE`, of a stage of the spec (then of all its copies) or of a copy. step_seconds: asked where an
    axis is `time`: a variant gets as many steps as fit. memorisation: whether the comparison
    scores single images. What does not depend on a variant is one stage, run once;
    registering is left out. Raises SpecError or UsageError with what is wrong.
    """
    overrides = list(overrides)
    document = dict(source) if isinstance(source, Mapping) else load_document(source)[0]
    of_copies = [text for text in overrides if _names_a_copy(text, document.get("stages") or {})]
    of_stages = [text for text in overrides if text not in of_copies]
    base = load_spec(source, of_stages)
    stages = _comparable(base, apply_overrides(document, of_stages)[0]["stages"])
    check_axes(stages, axes)
    time = next((next(iter(axis.options)) for axis in axes if axis.name == "time"), None)
    for axis in axes:
        if len(axis.options) == 1:
            _apply(stages, next(iter(axis.options.values())))
    axes = [axis for axis in axes if len(axis.options) > 1]
    if selections:
        axes = [Axis("selection", {name: {"curate": dict(changes)} for name, changes in selections}), *axes]
    first = min(body.get("seed", 0) for body in stages.values() if body["uses"] == "pretrain")
    seed_axis = Axis("seed", {str(first + i): {"pretrain": {"seed": first + i}} for i in range(seeds)})
    if not axes:
        raise UsageError(
            "nothing to compare: give two values or more to one of --selections, --objectives, --views, --budget or "
            "--axis, or a --grid, or name two runs"
        )
    grid = expand_grid(stages, [*axes, seed_axis])
    remarks = [] if time is None or step_seconds is None else _fit_steps(grid, time, step_seconds)
    _add_comparisons(grid, base, axes, remarks, memorisation)
    expanded = {**base.document(), "name": f"{base.name}-compare"[:64], "stages": grid.stages}
    return load_spec(expanded, of_copies)


def _fit_steps(grid: Grid, time: str, step_seconds: StepSeconds) -> list[str]:
    """Give each training the steps that fit into its time, to two digits; the seeds of a variant get the same. Returns
    what it comes to, a line each."""
    told = []
    for name, body in grid.stages.items():
        if body["uses"] == "pretrain":
            alike = {key: value for key, value in body.items() if key not in _NO_COST}
            point = grid.points[name]
            given, cost = point.get("time", time), step_seconds(alike)
            body["steps"] = fitting_steps(seconds_of(given), cost)
            variant = " ".join(value for axis, value in point.items() if axis not in ("seed", "time"))
            told.append(f"{given} of {variant} are {body['steps']} steps, by {cost:.3g} s a step measured beforehand")
    return list(dict.fromkeys(told))


def fitting_steps(seconds: float, step: float) -> int:
    """How many steps of `step` seconds fit, down to two digits, so that a slightly other measurement mostly says the
    same; no fewer than make a training."""
    whole = int(seconds / step + 1e-9)
    unit = 10 ** max(0, len(str(whole)) - 2)
    return max(_SHORTEST, whole // unit * unit)


def _names_a_copy(override: str, stages: Iterable[str]) -> bool:
    name = override.partition(".")[0].strip()
    return name not in stages and (name == "compare" or any(name.startswith(f"{known}-") for known in stages))


def _apply(stages: Mapping[str, dict[str, Any]], changes: Changes) -> None:
    for body in stages.values():
        body.update(merged(body, changes.get(body["uses"], {})))


def _comparable(base: Spec, written: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a spec without registering; every evaluation with a bank that no selection changes.

    A training is as it was `written`: defaults that follow from its objective are another objective's to choose.
    """
    stages = {n: b for n, b in base.document()["stages"].items() if b["uses"] != "register"}
    for needed in ("curate", "pretrain", "evaluate"):
        if all(body["uses"] != needed for body in stages.values()):
            raise UsageError(f"{base.name} has no stage of type '{needed}': there is nothing to compare")
    for name, body in stages.items():
        if body["uses"] == "pretrain":
            kept = {"uses": body["uses"], "inputs": body["inputs"]}
            stages[name] = {**(written[name] or {}), **kept}
        if body["uses"] == "evaluate":
            body["bank"] = "pool"
            selection = stages[body["inputs"]["selection"]]
            for kind in ("duplicates", "quality"):
                if kind in selection["inputs"]:
                    body["inputs"][kind] = selection["inputs"][kind]
    return stages


def _add_comparisons(grid: Grid, base: Spec, axes: Sequence[Axis], remarks: Sequence[str], memorisation: bool) -> None:
    """A compare stage for each evaluate stage of the original."""
    measures = [f"{name}/{probe}_trained" for name in base.document().get("evaluation_sets", {}) for probe in _PROBES]
    evaluations = [name for name in grid.copies if base.stages[name].type == "evaluate"]
    main = next((axis for axis in axes if len(axis.options) > 1), axes[0])
    against = "random" if main.name == "selection" and "random" in main.options else next(iter(main.options))
    for name in evaluations:
        own = {copied.removeprefix(f"{name}-"): copied for copied in grid.copies[name]}
        grid.stages["compare" if len(evaluations) == 1 else f"compare-{name}"] = {
            "uses": "compare",
            "inputs": {f"metrics.{cell}": copied for cell, copied in own.items()},
            "cells": {cell: grid.points[copied] for cell, copied in own.items()},
            "measures": [*measures, *(f"{probe}_trained" for probe in (*_PROBES, "rankme"))],
            "baseline": {main.name: against},
            "remarks": list(remarks),
            "memorisation": {} if memorisation else None,
        }
