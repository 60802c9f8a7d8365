"""How much closer the views of single images lie for a model that was trained on them than for one that was not."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.base import StageContext, committed
from stages.compare import CompareParams, MemorisationParams
from stages.compare.models import Model
from stages.compare.training_sets import NotMeasurableError, Training, image_kinds, training_of, unlike
from stages.compute import Task
from stages.pictures import read_pictures
from stages.tables import write_part
from training.evaluation.bootstrap import mean_interval
from training.evaluation.memorisation import alignment_losses, excess, memorisation

TABLE = "memorisation"
_SCHEMA = pa.schema(
    [
        ("first", pa.string()),
        ("second", pa.string()),
        ("image_id", pa.string()),
        ("trained_by", pa.string()),  # "first" | "second" | "both" | "neither"
        ("score", pa.float64()),  # memorisation by the first model; by the second it is the negative
        ("alignment_first", pa.float64()),  # mean distance between two views, 0 to 2
        ("alignment_second", pa.float64()),
    ]
)
_PART = 128
"""Images of a task."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of two models. ids: sorted. kinds: (N,) who was trained on each: "first", "second", "both" or "neither".
    values: (N,) of the first model, those of the second are their negatives. losses: alignment by either."""

    first: Training
    second: Training
    ids: list[str]
    kinds: NDArray[np.str_]
    values: Floats
    losses: tuple[Floats, Floats]


@dataclass(frozen=True)
class Memorised:
    """scores: of each two models that could be measured. record: for `comparison.json`. seconds: that it took."""

    scores: list[Scores]
    record: dict[str, Any]
    seconds: float


def measure_memorisation(
    ctx: StageContext[CompareParams], models: Sequence[Model], params: MemorisationParams
) -> Memorised:
    """Score images by SSLMem (arXiv:2401.12233) for the first model against each of the others, both ways.

    Images that one alone was trained on are scored beside two controls: images that both were trained on, and images
    that both hold out. Views are those of the trainings. What cannot be measured is noted with its reason.
    """
    start, found, pairs = time.perf_counter(), list[Scores](), list[dict[str, Any]]()
    for number, other in enumerate(models[1:]):
        names = {"first": models[0].name, "second": other.name}
        try:
            first, second = training_of(models[0]), training_of(other)
            kinds = image_kinds(first, second, params.images)
        except NotMeasurableError as error:
            ctx.note(f"no memorisation between {names['first']} and {names['second']}: {error}")
            pairs.append({**names, "reason": str(error)})
            continue
        scores, views = _scored(ctx, f"memorisation-{number}", first, second, kinds, params.views)
        found.append(scores)
        pairs.append({**names, "reason": "", **_record(scores, views, ctx.params.confidence)})
    seconds = time.perf_counter() - start
    if found:
        ctx.note(f"memorisation took {seconds:.1f} s")
    return Memorised(found, {"pairs": pairs}, seconds)


def write_memorisation(work: Path, found: Memorised) -> None:
    """The table `memorisation`, an image of two models a row."""
    parts = [
        pa.table(
            [
                [scores.first.name] * len(scores.ids),
                [scores.second.name] * len(scores.ids),
                scores.ids,
                scores.kinds.tolist(),
                scores.values,
                *scores.losses,
            ],
            schema=_SCHEMA,
        )
        for scores in found.scores
    ]
    write_part(work, TABLE, 0, pa.concat_tables([_SCHEMA.empty_table(), *parts]))


def _scored(
    ctx: StageContext[CompareParams],
    name: str,
    first: Training,
    second: Training,
    kinds: Mapping[str, str],
    least: int,
) -> tuple[Scores, int]:
    """The scores, and how many views of each image they are of: `least`, up to a whole round of the recipe's crops."""
    recipe = first.config["views"]
    rounds = math.ceil(least / recipe["crops"])
    views, ids = rounds * recipe["crops"], sorted(kinds)
    ctx.note(
        f"memorisation of {first.name} and {second.name}: {len(ids):,} images, {views} views of each, two models: "
        f"{2 * len(ids) * views:,} forward passes"
    )
    config = {
        "first": str(first.checkpoint),
        "second": str(second.checkpoint),
        "recipe": recipe,
        "rounds": rounds,
        "canvas": first.canvas,
    }
    tasks, present = _tasks(ctx.scratch / name, ids, first, second)
    arrays = _features(ctx, config, tasks)
    present[present] = arrays["decoded"]
    kept = [image_id for image_id, decoded in zip(ids, present, strict=True) if decoded]
    values = memorisation(arrays["first"], arrays["second"]).scores
    losses = alignment_losses(arrays["first"]), alignment_losses(arrays["second"])
    return Scores(first, second, kept, np.array([kinds[i] for i in kept]), values, losses), views


def _tasks(
    folder: Path, ids: Sequence[str], first: Training, second: Training
) -> tuple[list[Task], NDArray[np.bool_]]:
    """Tasks with their pictures in files of their own, and whether each image is still there."""
    tasks, present = list[Task](), list[bool]()
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        pictures = read_pictures(second.pool, part) | read_pictures(first.pool, part)
        shown = [image_id for image_id in part if image_id in pictures]
        present += [image_id in pictures for image_id in part]
        path = folder / f"{start:07d}.parquet"
        columns = {
            "image_id": shown,
            "bytes": [pictures[image_id].bytes for image_id in shown],
            "orientation": [pictures[image_id].orientation for image_id in shown],
        }
        with committed(path) as temporary:
            pq.write_table(pa.table(columns), temporary, compression="none")
        tasks.append({"images": str(path), "out": str(path.with_suffix(".npz")), "rows": len(shown)})
    return tasks, np.array(present)


def _features(
    ctx: StageContext[CompareParams], config: Mapping[str, Any], tasks: Sequence[Task]
) -> dict[str, NDArray[Any]]:
    """Views' features by both models, and which pictures could be decoded; over all workers."""
    from stages.compare.views_worker import TwoModelViews

    done, total = 0, sum(task["rows"] for task in tasks)

    def on_done(result: Task) -> None:
        nonlocal done
        done += result["rows"]
        ctx.progress(done, total, "images")

    waiting = [task for task in tasks if not Path(task["out"]).exists()]
    gpus = ctx.compute.gpus()
    actors = max(1, min(len(waiting), int(gpus or ctx.compute.cpus())))
    ctx.compute.map(TwoModelViews, config, waiting, actors=actors, on_done=on_done, gpus_per_actor=gpus and 1)
    parts = [np.load(task["out"]) for task in tasks]
    return {name: np.concatenate([part[name] for part in parts]) for name in ("first", "second", "decoded")}


def _record(scores: Scores, views: int, confidence: float) -> dict[str, Any]:
    trainings = scores.first, scores.second
    return {
        "views": views,
        "passes": 2 * len(scores.ids) * views,
        "marks": unlike(*trainings),
        "trained": [{"name": t.name, "images": len(t.images), "epochs": _rounded(t.epochs)} for t in trainings],
        "directions": [
            _direction(scores, own, confidence) for own in ("first", "second") if (scores.kinds == own).any()
        ],
    }


def _direction(scores: Scores, own: str, confidence: float) -> dict[str, Any]:
    """Mean scores by one of the models of what it alone, both and neither were trained on; and how far the first lies
    above the last."""
    trained, reference = (scores.first, scores.second) if own == "first" else (scores.second, scores.first)
    values = scores.values if own == "first" else -scores.values
    groups, of = [], {kind: values[scores.kinds == kind] for kind in (own, "both", "neither")}
    for kind, found in of.items():
        if len(found):
            low, high = mean_interval(found, seed=0, confidence=confidence)
            told = {"kind": "own" if kind == own else kind, "images": len(found)}
            groups.append({**told, "mean": _rounded(found.mean()), "lo": _rounded(low), "hi": _rounded(high)})
    over = None
    if len(of["neither"]):
        value, (low, high) = excess(of[own], of["neither"], confidence)
        over = {"mean": _rounded(value), "lo": _rounded(low), "hi": _rounded(high)}
    return {"trained": trained.name, "reference": reference.name, "groups": groups, "excess": over}


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
