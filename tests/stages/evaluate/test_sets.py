"""Evaluation sets under their own names: split, measured, refused where the pool was not guarded against them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stages.base import StageError
from stages.evaluate import Evaluate, EvaluateParams
from stages.evaluate.sets import set_splits
from stages.guards import GUARD, set_digests
from stages.tables import IMAGES, table_from_rows, write_part
from tests.stages.pool import artifact_of, context_of, emoji_bytes, image_row, table_artifact, write_table_artifact
from tests.stages.probe_inputs import write_checkpoint, write_pool
from training.evaluation.protocol import PROTOCOLS, V2

PARAMS = {
    "max_per_class": 12,
    "max_queries_per_class": 6,
    "min_class_size": 3,
    "k_grid": (5,),
    "protocol": "curatrain-v1",
}


def write_sets(path, metadata=None):
    """Two labelled sets and one without labels, as an images artifact."""
    items = emoji_bytes(60)
    rows = []
    for index, item in enumerate(items):
        name = ("tiles", "faces", "plain")[index % 3]
        row = {**image_row(*item), "source": name, "label": None if name == "plain" else "ab"[index % 2]}
        rows.append({**row, "metadata": metadata(index) if metadata else None})
    write_part(path, "images", 0, table_from_rows(IMAGES, sorted(rows, key=lambda row: row["image_id"])))
    return table_artifact("images", path)


def write_guard(path, images, sets, leaks=()):
    """A duplicates artifact that has seen all images of a pool and was guarded against `sets`."""
    names = images.table(["image_id"])["image_id"].to_pylist()
    rows = [{"image_id": name, "group_id": name, "keeper_id": name, "leak_group_id": name} for name in names]
    for row in rows:
        row["reason"] = "leak" if row["image_id"] in leaks else None
    made = write_table_artifact("duplicates", path, rows)
    (path / GUARD).write_text(json.dumps({"sets": sets}))
    return made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    images, selection = write_pool(folder, 60)
    sets = write_sets(folder / "sets", lambda _: json.dumps({"boxes": [[0.1, 0.1, 0.9, 0.9]]}))
    return {
        "checkpoint": write_checkpoint(folder / "checkpoint"),
        "images": images,
        "selection": selection,
        "evaluation_images": sets,
        "duplicates": write_guard(folder / "duplicates", images, set_digests(sets)),
    }


def test_each_labelled_set_is_measured_under_its_name(inputs, tmp_path):
    events: list = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, V2.id, replace(V2, view_images=8, grid_steps=5, layers=1, resamples=50))
        wide = {**PARAMS, "protocol": V2.id, "robustness": "none"}
        made = artifact_of(Evaluate, wide, tmp_path, inputs, events=events)
    metrics = made.manifest["metrics"]
    for name in ("tiles", "faces"):
        assert 0 <= metrics[f"{name}/knn_trained_lo"] <= metrics[f"{name}/knn_trained"] <= 1
        assert f"{name}/linear_gain_over_untrained" in metrics
        assert f"{name}/unguarded" not in metrics
        assert f"{name}/ridge_trained_lo" in metrics
        assert f"{name}/lidar_trained" not in metrics
        for figure in ("ood_auroc_trained", "corloc_untrained"):
            assert 0 <= metrics[f"{name}/{figure}_lo"] <= metrics[f"{name}/{figure}"] <= metrics[f"{name}/{figure}_hi"]
        assert (tmp_path / "report" / name / "neighbours.html").exists()
        assert (tmp_path / "features" / "sets" / name / "trained-backbone-pooled.arrow").exists()
        assert (tmp_path / f"predictions-{name}.arrow").exists()
    assert not any(name.startswith("plain/") for name in metrics)
    assert any("plain: the set has no labels" in fields["text"] for kind, fields in events if kind == "note")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert set(record["sets"]) == {"tiles", "faces", "plain"}
    assert "| tiles | 0." in (tmp_path / "report" / "evaluation.md").read_text()
    assert "tiles kNN ." in made.manifest["summary"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("absent", "tiles: dedup has not compared it with the pool"),
        ("other", "tiles: dedup has compared other images of this name"),
        ("leaking", "trains on 3 images that leak"),
        ("unseen", "trains on .* images that dedup has not seen"),
    ],
)
def test_a_set_that_was_not_guarded_is_refused_and_marked_where_it_is_allowed(inputs, tmp_path, change, message):
    sets = set_digests(inputs["evaluation_images"])
    train = [row["image_id"] for row in inputs["selection"].table().to_pylist() if row["role"] == "train"]
    images = inputs["images"]
    if change == "absent":
        del sets["tiles"]
    elif change == "other":
        sets["tiles"]["digest"] = "0" * 64
    elif change == "unseen":
        images = write_pool(tmp_path / "other", 17)[0]
    changed = {
        **inputs,
        "duplicates": write_guard(tmp_path / "duplicates", images, sets, train[:3] if change == "leaking" else ()),
    }
    with pytest.raises(StageError, match=message):
        artifact_of(Evaluate, PARAMS, tmp_path / "refused", changed)
    if change == "other":
        made = artifact_of(Evaluate, {**PARAMS, "allow_unguarded": True}, tmp_path / "marked", changed)
        assert made.manifest["metrics"]["tiles/unguarded"] == 1
        assert "faces/unguarded" not in made.manifest["metrics"]
        assert "unguarded" in json.loads((made.path / "metrics.json").read_text())["sets"]["tiles"]
        assert "tiles` is unguarded" in (made.path / "report" / "evaluation.md").read_text()
        assert "(unguarded)" in made.manifest["summary"]


def test_no_duplicates_at_all_is_refused(inputs, tmp_path):
    alone = {name: artifact for name, artifact in inputs.items() if name != "duplicates"}
    with pytest.raises(StageError, match="3 evaluation sets could not be trusted"):
        artifact_of(Evaluate, PARAMS, tmp_path, alone)


def test_a_split_in_the_metadata_is_taken(inputs, tmp_path):
    def metadata(index):
        return json.dumps({"split": "test" if index % 5 == 0 else "train"})

    sets = write_sets(tmp_path / "sets", metadata)
    context = context_of(Evaluate(EvaluateParams(**PARAMS)), tmp_path / "work", {**inputs, "evaluation_images": sets})
    by_id = {
        row["image_id"]: json.loads(row["metadata"])["split"]
        for row in sets.table(["image_id", "metadata"]).to_pylist()
    }
    split = set_splits(context)["tiles"]
    assert {by_id[i] for i in split.bank} == {"train"}
    assert {by_id[i] for i in split.queries} == {"test"}
    assert len(split.queries) == 4
    halved = set_splits(context_of(Evaluate(EvaluateParams(**PARAMS)), tmp_path / "work", inputs))["tiles"]
    assert abs(len(halved.bank) - len(halved.queries)) <= 2
    assert not set(halved.bank) & set(halved.queries)
