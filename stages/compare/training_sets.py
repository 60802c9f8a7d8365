"""What a compared model was trained on, and how, by its lineage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from stages.artifact import Artifact
from stages.compare.models import Model, made_from
from stages.evaluate.split import first_by_hash
from training.evaluation.preprocessing import read_preprocessing
from training.recipes import ViewRecipe


class NotMeasurableError(ValueError):
    """Memorisation cannot be measured; the message says why, and what to do."""


@dataclass(frozen=True)
class Training:
    """A model and its training.

    images: ids that it was trained on, all trainings before it included. group_of: duplicate groups by image.
    held_out: ids that its selection keeps from training. pool: where the pictures are. config: of the checkpoint.
    canvas: side of the pictures that views are cut from. epochs: how often the last training went over its images.
    given_weights: whether it began with weights of unknown images.
    """

    name: str
    checkpoint: Path
    images: frozenset[str]
    group_of: dict[str, str]
    held_out: frozenset[str]
    pool: Artifact
    config: dict[str, Any]
    canvas: int
    epochs: float
    given_weights: bool


def training_of(model: Model) -> Training:
    """The training behind an evaluation. Raises NotMeasurableError where its lineage is not whole."""
    checkpoint, pool = _checkpoint_of(model), made_from(model.metrics, "images")
    if pool is None:
        raise NotMeasurableError(
            f"the images that {model.name} was evaluated on are gone from the store: run it again"
        )
    config = json.loads((checkpoint.path / "config.json").read_text())
    trainings = list(_trainings(model, checkpoint))
    selections = [_selection_of(model, training) for training in trainings]
    rows = [selection.table(["image_id", "role", "group_id"]) for selection in selections]
    groups = {i: g for table in rows for i, g in zip(*_columns(table, "image_id", "group_id"), strict=True) if g}
    trained = [frozenset(_with_role(table, "train")) for table in rows]
    params = checkpoint.manifest.get("recipe", {}).get("params", {})
    return Training(
        model.name,
        checkpoint.path,
        frozenset().union(*trained),
        groups,
        frozenset(_with_role(rows[0], "holdout")),
        pool,
        config,
        params.get("source_size") or 2 * config["image_size"],
        config.get("finished_steps", config["steps"]) * config["batch"] / max(1, len(trained[0])),
        any("init_from" in training.manifest.get("recipe", {}).get("externals", {}) for training in trainings),
    )


def _checkpoint_of(model: Model) -> Artifact:
    checkpoint = made_from(model.metrics, "checkpoint")
    needed = ("config.json", "backbone.safetensors", "preprocessing.json")
    if checkpoint is None or not all((checkpoint.path / name).exists() for name in needed):
        raise NotMeasurableError(f"the checkpoint of {model.name} is gone from the store: run its training again")
    return checkpoint


def _trainings(model: Model, checkpoint: Artifact) -> Iterator[Artifact]:
    """The checkpoint, the one that its training began with, and so on."""
    yield checkpoint
    if any(item["name"] == "init" for item in checkpoint.manifest["inputs"]):
        before = made_from(checkpoint, "init")
        if before is None:
            raise NotMeasurableError(f"the checkpoint that {model.name} began with is gone from the store")
        yield from _trainings(model, before)


def _selection_of(model: Model, checkpoint: Artifact) -> Artifact:
    shards = made_from(checkpoint, "shards")
    selection = made_from(shards, "selection") if shards else None
    if selection is None:
        raise NotMeasurableError(
            f"which images {model.name} was trained on is not known, since its shards or its selection are gone from "
            "the store: run them again"
        )
    return selection


def _columns(table: Any, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def _with_role(table: Any, role: str) -> list[str]:
    return table.filter(pc.equal(table["role"], role))["image_id"].to_pylist()


def image_kinds(first: Training, second: Training, most: int) -> dict[str, str]:
    """Up to `most` images of each kind by who was trained on them: "first", "second", "both" or "neither".

    An image of one training set with a near-duplicate in the other is of no kind, nor is one that only one model
    holds out. Raises NotMeasurableError where no image is one model's alone, or where they make other views.
    """
    _check_same_views(first, second)
    if first.images == second.images:
        raise NotMeasurableError(
            f"both were trained on the same {len(first.images):,} images: compare runs whose selections differ, such "
            "as of curate.method or curate.seed, or of two shares of a pool"
        )
    found = {
        "first": _alone(first, second),
        "second": _alone(second, first),
        "both": first.images & second.images,
        "neither": (first.held_out & second.held_out) - first.images - second.images,
    }
    if not found["first"] and not found["second"]:
        raise NotMeasurableError("every image that one of them alone was trained on has a near-duplicate in the other")
    return {i: kind for kind, ids in found.items() for i in first_by_hash(ids, most, 0)}


def unlike(first: Training, second: Training) -> list[str]:
    """In what the two trainings differ besides their images: a score then tells of that too."""
    told = []
    for what, key in (("objective", "objective"), ("backbone", "backbone"), ("batch", "batch")):
        values = [training.config[key] for training in (first, second)]
        if values[0] != values[1]:
            names = [value["name"] if isinstance(value, dict) else str(value) for value in values]
            differ = f"{names[0]} and {names[1]}" if names[0] != names[1] else f"two settings of {names[0]}"
            told.append(f"{what}: {differ}")
    steps = [training.config.get("finished_steps", training.config["steps"]) for training in (first, second)]
    if steps[0] != steps[1]:
        told.append(f"length: {steps[0]:,} and {steps[1]:,} steps")
    for training in (first, second):
        if training.given_weights:
            told.append(f"{training.name} began with weights whose images are not known")
        if training.epochs < 1:
            told.append(f"{training.name} went over {training.epochs:.0%} of its images only")
    return told


def _check_same_views(first: Training, second: Training) -> None:
    if any("views" not in training.config for training in (first, second)):
        raise NotMeasurableError("a checkpoint does not say how its views are made: run its training again")
    recipes = [ViewRecipe(**training.config["views"]).to_dict() for training in (first, second)]
    differing = [name for name in recipes[0] if recipes[0][name] != recipes[1][name]]
    differing += ["image_size or source_size"] if first.canvas != second.canvas else []
    differing += ["preprocessing"] if len({read_preprocessing(t.checkpoint) for t in (first, second)}) > 1 else []
    if differing:
        raise NotMeasurableError(
            f"their views differ in {', '.join(differing)}, and distances between other views do not compare: train "
            "both with the same views and image_size"
        )


def _alone(training: Training, other: Training) -> set[str]:
    groups = {other.group_of[image_id] for image_id in other.images if image_id in other.group_of}
    return {i for i in training.images - other.images if training.group_of.get(i) not in groups}
