"""Models held against each other image by image, on hand-made features and trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from stages.artifact import Artifact
from stages.compare import BlindPairParams, Compare
from stages.compare.blind import find_blind_pairs
from stages.compare.models import Model, chosen_models
from stages.compare.training_sets import NotMeasurableError, Training, image_kinds, unlike
from stages.compare.views_worker import TwoModelViews
from tests.stages.compare.test_compare import evaluation, with_features
from tests.stages.pool import artifact_of, emoji_bytes
from tests.stages.probe_inputs import PREPROCESSING, write_checkpoint
from training.recipes import two_crops

IMAGES = 40
PAIR = (4, 6)
"""Rows that `same` takes for one image; rows with even numbers are held out."""


def planted(anisotropy: float) -> dict[str, NDArray[np.float32]]:
    """Features of two models, both along one direction to begin with; `same` cannot tell the images of `PAIR`."""
    generator = np.random.default_rng(5)
    features = {name: generator.standard_normal((IMAGES, 16)) for name in ("same", "other")}
    features["same"][PAIR[1]] = features["same"][PAIR[0]]
    return {name: (x + anisotropy * np.eye(16)[0]).astype(np.float32) for name, x in features.items()}


def compared(tmp_path: Path, params: dict[str, Any], seeds: int = 1, **context: Any) -> Artifact:
    cells, inputs = {}, {}
    for name, features in planted(anisotropy=12.0).items():
        for seed in range(seeds):
            cell = f"{name}-{seed}"
            cells[cell] = {"run": name, "seed": str(seed)}
            inputs[f"metrics.{cell}"] = evaluation(tmp_path / "objects" / "evaluate" / cell, 0.5)
            with_features(inputs[f"metrics.{cell}"], features)
    body = {"cells": cells, "baseline": {"run": "same"}, **params}
    return artifact_of(Compare, body, tmp_path / "out", inputs, **context)


def found(made: Artifact) -> dict[tuple[str, str], int]:
    record = json.loads((made.path / "comparison.json").read_text())["blind_pairs"]
    return {(pair["blind"], pair["seeing"]): pair["found"] for pair in record["pairs"]}


def test_a_shared_direction_hides_blind_pairs_until_features_are_centred(tmp_path: Path) -> None:
    made = compared(tmp_path / "centred", {})
    assert found(made) == {("same", "other"): 1, ("other", "same"): 0}
    (row,) = pq.read_table(made.path / "blind_pairs").to_pylist()
    assert (row["blind"], {row["image_a"], row["image_b"]}) == ("same", {f"{n:04x}" for n in PAIR})
    assert row["cosine_blind"] == pytest.approx(1, abs=1e-5) and row["cosine_seeing"] < 0.6
    record = json.loads((made.path / "comparison.json").read_text())["blind_pairs"]
    assert record["images"] == IMAGES // 2 and all(m["typical_raw"] > 0.85 for m in record["models"])
    assert all(abs(m["typical"]) < 0.2 for m in record["models"])
    page = (made.path / "report" / "comparison.html").read_text()
    assert "Features are centred" in page and "The pictures are gone from the store" in page

    raw = compared(tmp_path / "raw", {"blind_pairs": {"centred": False}})
    assert found(raw)["same", "other"] == 0, "every two images are alike to both"
    assert "Features are not centred" in (raw.path / "report" / "comparison.md").read_text()


def test_thresholds_and_limits(tmp_path: Path) -> None:
    made = compared(tmp_path, {"blind_pairs": {"above": 0.2, "below": 0.2, "limit": 3}})
    assert all(count > 3 for count in found(made).values())
    rows = pq.read_table(made.path / "blind_pairs").to_pylist()
    assert len(rows) == 6
    gaps = [row["cosine_blind"] - row["cosine_seeing"] for row in rows]
    assert gaps[:3] == sorted(gaps[:3], reverse=True) and gaps[3:] == sorted(gaps[3:], reverse=True)


def test_few_of_many_evaluations_are_held_against_each_other(tmp_path: Path) -> None:
    made = compared(tmp_path, {"pairwise": 3}, seeds=2)
    names = {name for pair in found(made) for name in pair}
    assert names == {"same, seed 0", "other, seed 0", "same, seed 1"}
    assert found(made)["same, seed 0", "same, seed 1"] == 0
    assert "3 of 4 evaluations" in (made.path / "report" / "comparison.md").read_text()


def test_the_first_repetitions_come_first() -> None:
    variants = {name: dict.fromkeys(("0", "1"), evaluation) for name in ("b", "a")}
    assert [m.name for m in chosen_models(variants, "seed", 3)] == ["b, seed 0", "a, seed 0", "b, seed 1"]  # type: ignore[arg-type]


def test_without_features_there_is_nothing_to_find(tmp_path: Path) -> None:
    models = [Model(name, evaluation(tmp_path / "objects" / "evaluate" / name, 0.5)) for name in ("a", "b")]
    assert find_blind_pairs(models, BlindPairParams(), 0) is None


def test_why_memorisation_cannot_be_measured_is_told(tmp_path: Path) -> None:
    events: list[Any] = []
    made = compared(tmp_path, {"memorisation": {}}, events=events)
    notes = [fields["text"] for kind, fields in events if kind == "note"]
    assert any("no memorisation between same and other: the checkpoint of same is gone" in note for note in notes)
    assert "Not measured between same and other" in (made.path / "report" / "comparison.md").read_text()
    assert "Not measured between same and other" in (made.path / "report" / "comparison.html").read_text()
    assert pq.read_table(made.path / "memorisation").num_rows == 0


def training(folder: Path, name: str, images: str, held_out: str = "xyz", **changes: Any) -> Training:
    """A training on images with one letter as their id; `a` and `A` are near-duplicates."""
    checkpoint = folder / name
    checkpoint.mkdir()
    preprocessing = {**PREPROCESSING, **changes.pop("preprocessing", {})}
    (checkpoint / "preprocessing.json").write_text(json.dumps(preprocessing))
    views = {**two_crops().to_dict(), **changes.pop("views", {})}
    config = {"objective": {"name": "simclr"}, "backbone": {"name": "r"}, "batch": 4, "steps": 8, "views": views}
    return Training(
        name=name,
        checkpoint=checkpoint,
        images=frozenset(images),
        group_of={image_id: image_id.lower() for image_id in images},
        held_out=frozenset(held_out),
        pool=None,  # type: ignore[arg-type]
        config=config | changes,
        canvas=64,
        epochs=2.0,
        given_weights=False,
    )


def test_images_by_who_was_trained_on_them(tmp_path: Path) -> None:
    first, second = training(tmp_path, "one", "abcd"), training(tmp_path, "two", "Adef", held_out="yzbu")
    kinds = image_kinds(first, second, 10)
    # a and A are near-duplicates; x and u are held out by one alone; b is held out by the second, yet trains the first
    assert kinds == {
        "b": "first",
        "c": "first",
        "e": "second",
        "f": "second",
        "d": "both",
        "y": "neither",
        "z": "neither",
    }
    fewer = image_kinds(first, second, 1)
    assert sorted(fewer.values()) == ["both", "first", "neither", "second"] and fewer.items() <= kinds.items()
    assert unlike(first, second) == []


def test_what_bars_a_measurement(tmp_path: Path) -> None:
    first = training(tmp_path, "one", "abc")
    for name, images, changes, why in (
        ("same", "abc", {}, "on the same 3 images: compare runs whose selections differ"),
        ("copies", "ABC", {}, "has a near-duplicate in the other"),
        ("blurred", "de", {"views": {"blur": 0.5}}, "their views differ in blur"),
        ("white", "de", {"preprocessing": {"background": [0, 0, 0]}}, "differ in preprocessing"),
    ):
        with pytest.raises(NotMeasurableError, match=why):
            image_kinds(first, training(tmp_path, name, images, **changes), 5)
    old = training(tmp_path, "old", "de")
    del old.config["views"]
    with pytest.raises(NotMeasurableError, match="does not say how its views are made"):
        image_kinds(first, old, 5)


def test_what_blurs_a_measurement(tmp_path: Path) -> None:
    first = training(tmp_path, "one", "abc")
    other = training(tmp_path, "two", "de", objective={"name": "byol"}, steps=16)
    assert unlike(first, replace(other, epochs=0.4, given_weights=True)) == [
        "objective: simclr and byol",
        "length: 8 and 16 steps",
        "two began with weights whose images are not known",
        "two went over 40% of its images only",
    ]


def test_both_models_see_the_same_views_of_what_can_be_decoded(tmp_path: Path) -> None:
    checkpoints = [str(write_checkpoint(tmp_path / name, seed=seed).path) for name, seed in (("a", 1), ("b", 2))]
    items = emoji_bytes(3)
    names, data = [name for name, _, _ in items], [data for _, _, data in items]

    def features(first: str, second: str, shown: list[int], broken: bool = False) -> dict[str, NDArray[Any]]:
        table = {
            "image_id": [names[n] for n in shown] + ["broken"] * broken,
            "bytes": [data[n] for n in shown] + [b"no picture"] * broken,
            "orientation": [1] * (len(shown) + broken),
        }
        pq.write_table(pa.table(table), tmp_path / "pictures.parquet")
        worker = TwoModelViews(first, second, two_crops(blur=0.5).to_dict(), rounds=2, canvas=64)
        worker({"images": str(tmp_path / "pictures.parquet"), "out": str(tmp_path / "out.npz")})
        with np.load(tmp_path / "out.npz") as file:
            return dict(file)

    found = features(*checkpoints, [0, 1, 2], broken=True)
    assert found["decoded"].tolist() == [True, True, True, False]
    assert found["first"].shape == found["second"].shape == (3, 4, 96)
    assert not np.allclose(found["first"], found["second"])
    views = found["first"][0]
    assert all(not np.allclose(views[i], views[j]) for i in range(4) for j in range(i))
    again = features(checkpoints[0], checkpoints[0], [2, 0])
    assert np.array_equal(again["first"], again["second"])
    assert again["first"] == pytest.approx(found["first"][[2, 0]], abs=1e-4)
