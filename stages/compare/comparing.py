"""Reading the evaluations, checking that they may be compared, and the table of what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifact import Artifact
from stages.base import StageContext, StageError, StageResult
from stages.compare.pairwise import hold_pairwise
from stages.compare.pairwise_report import pairwise_metrics
from stages.compare.ranking import main_effects, ranking
from stages.compare.report import write_report
from stages.compare.similarity import similarity
from stages.register.lineage import ancestors
from stages.tables import files_digest
from training.evaluation.clid import clid
from training.evaluation.intervals import paired_difference, t_interval

if TYPE_CHECKING:
    from stages.compare import CompareParams

CLID = "clid_trained"


@dataclass(frozen=True)
class Cell:
    """One evaluation. values: its value on each axis. images, steps: trained on, None where that is not known.

    seconds: that its training took, by the clock of the machine that it ran on; None where that is not known.
    metrics, split, protocol: as in its `metrics.json`.
    """

    name: str
    artifact: Artifact
    values: dict[str, str]
    images: int | None
    steps: int | None
    seconds: float | None
    metrics: dict[str, float]
    split: dict[str, Any]
    protocol: str


def compare(ctx: StageContext[CompareParams], earlier: Mapping[str, Artifact]) -> StageResult:
    """Run the compare stage: `comparison.json`, `costs.json`, the tables `blind_pairs` and `memorisation`, those for
    MLflow in `tables/`, and the report.

    earlier: evaluations besides the connected ones, by the same names. Costs stand apart, so that the comparison's
    digest does not depend on how fast a machine was.
    """
    found = {**ctx.inputs, **earlier}
    cells = _with_clid([_read_cell(name, values, found) for name, values in sorted(ctx.params.cells.items())])
    _check_comparable(cells)
    record = _record(ctx.params, cells)
    pairwise, gallery, costs = hold_pairwise(ctx, _evaluations(record, cells))
    record |= pairwise
    for text in record["remarks"]:
        ctx.note(text)
    with ctx.writing("comparison.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    seconds = {cell.name: cell.seconds for cell in cells}
    with ctx.writing("costs.json") as temporary:
        temporary.write_text(json.dumps({"training_seconds": seconds, **costs}, indent=1, sort_keys=True) + "\n")
    with ctx.writing("tables/comparison.json") as temporary:
        temporary.write_text(json.dumps(flat_table(record)) + "\n")
    write_report(ctx.report, record, seconds, gallery)
    return StageResult(
        digest=files_digest(ctx.work, ["comparison.json"]),
        rows_in=len(cells),
        rows_out=len(record["rows"]),
        metrics=_flat_metrics(record) | pairwise_metrics(record) | costs,
        summary=_summary(record),
    )


def _read_cell(name: str, values: dict[str, str], found: Mapping[str, Artifact]) -> Cell:
    artifact = found.get(f"metrics.{name}")
    if artifact is None:
        raise StageError(f"cells.{name} has no evaluation: connect one as inputs.metrics.{name}")
    record = json.loads((artifact.path / "metrics.json").read_text())
    chain = ancestors([artifact])
    shards, trainings = ([a for a in chain if a.manifest.get("kind") == kind] for kind in ("shards", "checkpoint"))
    images = shards[0].manifest.get("rows_out") if len(shards) == 1 else None
    known = bool(trainings) and all("seconds" in a.manifest for a in trainings)
    seconds = sum(a.manifest["seconds"] for a in trainings) if known else None
    steps = _steps(trainings[-1].path) if trainings else None
    told = record["metrics"], record["split"], record["protocol"]["id"]
    return Cell(name, artifact, values, images, steps, seconds, *told)


def _steps(checkpoint: Path) -> int | None:
    try:
        return int(json.loads((checkpoint / "config.json").read_text())["steps"])
    except (OSError, ValueError, KeyError):
        return None


def _with_clid(cells: list[Cell]) -> list[Cell]:
    """The cells with CLID, which only exists between models, where all have its two parts.

    Each part is standardised over the models, so that of two models both are +1 or -1: their CLID says nothing.
    """
    parts = ("cluster_learnability_trained", "intrinsic_dimension_trained")
    if len(cells) < 3 or not all(isfinite(cell.metrics.get(part, nan)) for cell in cells for part in parts):
        return cells
    values = clid(*([cell.metrics[part] for cell in cells] for part in parts))
    return [replace(cell, metrics={**cell.metrics, CLID: value}) for cell, value in zip(cells, values, strict=True)]


def _check_comparable(cells: Sequence[Cell]) -> None:
    first = cells[0]
    for cell in cells[1:]:
        if cell.protocol != first.protocol:
            raise StageError(
                f"{first.name} was evaluated by protocol {first.protocol}, {cell.name} by {cell.protocol}: use one"
            )
        if cell.split["digests"] != first.split["digests"]:
            raise StageError(
                f"{first.name} and {cell.name} were evaluated on different images: let evaluate.bank be pool, and "
                "curate.seed and curate.holdout be the same in all variants"
            )


def _record(params: CompareParams, cells: Sequence[Cell]) -> dict[str, Any]:
    """Everything that `comparison.json` says."""
    measures = [name for name in (*params.measures, CLID) if all(name in cell.metrics for cell in cells)]
    if not measures:
        raise StageError(f"no evaluation has all of the figures to compare: {', '.join(params.measures)}")
    groups: dict[tuple[tuple[str, str], ...], dict[str, Cell]] = {}
    for cell in cells:
        variant = tuple((axis, value) for axis, value in sorted(cell.values.items()) if axis != params.repeats)
        groups.setdefault(variant, {})[cell.values[params.repeats]] = cell
    rows = []
    for variant, runs in groups.items():
        against = groups.get(tuple((axis, params.baseline.get(axis, value)) for axis, value in variant))
        row: dict[str, Any] = {
            "variant": dict(variant),
            "runs": len(runs),
            "images": next(iter(runs.values())).images,
            "steps": next(iter(runs.values())).steps,
            "baseline": against is runs,
        }
        for measure in measures:
            row[measure] = _statistics(measure, runs, None if against is runs else against, params.confidence)
        rows.append(row)
    first = {variant: {r: c.metrics[measures[0]] for r, c in runs.items()} for variant, runs in groups.items()}
    return {
        "repeats": params.repeats,
        "baseline": params.baseline,
        "confidence": params.confidence,
        "measures": measures,
        "protocol": cells[0].protocol,
        "split": {name: cells[0].split[name] for name in ("digests", "bank", "queries", "seed")},
        "chance": cells[0].metrics.get("chance"),
        "rows": rows,
        "cells": [{"name": c.name, "values": c.values, "images": c.images, "metrics": c.metrics} for c in cells],
        "ranking": ranking(first, params.confidence),
        "main_effects": main_effects(first, params.confidence),
        "similarity": similarity(
            {" ".join(dict(v).values()): {r: c.artifact.path for r, c in runs.items()} for v, runs in groups.items()}
        ),
        "remarks": [*params.remarks, *_remarks(rows)],
    }


def _evaluations(record: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, dict[str, Artifact]]:
    """The evaluations of each variant by repetition, the baseline first."""
    rows = sorted(record["rows"], key=lambda row: not row["baseline"])
    return {
        variant_name(row): {
            cell.values[record["repeats"]]: cell.artifact
            for cell in cells
            if cell.values.items() >= row["variant"].items()
        }
        for row in rows
    }


def _statistics(
    measure: str, runs: dict[str, Cell], against: dict[str, Cell] | None, confidence: float
) -> dict[str, float | None]:
    """Mean and t interval over the repetitions, and the same of the paired differences to the baseline."""
    mean, low, high = t_interval([runs[repeat].metrics[measure] for repeat in sorted(runs)], confidence)
    found = {"mean": mean, "lo": low, "hi": high}
    shared = sorted(set(runs) & set(against)) if against else []
    if against and shared:
        own, other = ([side[repeat].metrics[measure] for repeat in shared] for side in (runs, against))
        difference, low, high = paired_difference(own, other, confidence)
        found |= {"difference": difference, "difference_lo": low, "difference_hi": high}
    return {name: None if value is None else float(f"{value:.6g}") for name, value in found.items()}


def _remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    remarks = []
    counts = {variant_name(row): row["images"] for row in rows}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        remarks.append(f"the variants trained on different numbers of images ({listed}): part of a difference is size")
    fewest = min(row["runs"] for row in rows)
    if fewest == 1:
        remarks.append("one repetition gives no interval: differences may be chance")
    elif fewest == 2:
        remarks.append(
            "with two repetitions an interval is nearly four times as wide as with three of the same spread, and no "
            "variant is called above another"
        )
    return remarks


def variant_name(row: dict[str, Any]) -> str:
    """A row's values on the axes that are compared, such as "balanced" or "balanced mae"."""
    return " ".join(row["variant"].values())


def _flat_metrics(record: dict[str, Any]) -> dict[str, float]:
    """`<measure>_<variant>` with `_lo`, `_hi`, `_difference` ...; what is not known is absent."""
    return {
        f"{measure}_{variant_name(row).replace(' ', '_')}{'' if name == 'mean' else f'_{name}'}": value
        for row in record["rows"]
        for measure in record["measures"]
        for name, value in row[measure].items()
        if value is not None
    }


def flat_table(record: dict[str, Any]) -> dict[str, list[Any]]:
    """The rows in the form in which MLflow keeps a table: {"columns": names, "data": rows}."""
    axes = list(record["rows"][0]["variant"])
    fields = ("mean", "lo", "hi", "difference", "difference_lo", "difference_hi")
    suffixes = {name: "" if name == "mean" else f"_{name}" for name in fields}
    columns = [*axes, "images", "runs", *(f"{m}{suffixes[name]}" for m in record["measures"] for name in fields)]
    data = [
        [
            *row["variant"].values(),
            row["images"],
            row["runs"],
            *(row[m].get(name) for m in record["measures"] for name in fields),
        ]
        for row in record["rows"]
    ]
    return {"columns": columns, "data": data}


def _summary(record: dict[str, Any]) -> str:
    measure = record["measures"][0]
    ranked = sorted(record["rows"], key=lambda row: (-row[measure]["mean"], variant_name(row)))
    return f"{measure}: " + ", ".join(f"{variant_name(row)} {row[measure]['mean']:.3f}" for row in ranked)
