"""The compare stage on hand-made evaluations: the statistics are checked against textbook values."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from stages.artifact import Artifact
from stages.base import StageError
from stages.compare import Compare, CompareParams
from stages.compare.report import label
from stages.compare.similarity import similarity
from tests.stages.pool import artifact_of, table_artifact
from tests.stages.probe_inputs import with_manifest

KNN = {"random": [0.40, 0.42, 0.44], "balanced": [0.45, 0.46, 0.50], "raw|x": [0.30, 0.35, 0.40]}


def evaluation(folder: Path, knn: float, images: int = 100, seconds: float = 30.0, **split: Any) -> Artifact:
    """A metrics artifact whose checkpoint was trained on so many images for so long."""
    folder.mkdir(parents=True)
    record = {
        "metrics": {"knn_trained": knn, "knn_trained_lo": knn - 0.1, "knn_trained_hi": knn + 0.1, "chance": 0.2}
        | {"rankme_trained": 100 * knn},
        "protocol": {"id": "curatrain-v1"},
        "split": {"digests": {"bank": "b" * 32, "queries": "q" * 32}, "bank": 50, "queries": 20, "seed": 0} | split,
    }
    (folder / "metrics.json").write_text(json.dumps(record))
    inputs = []
    for stage, manifest in (
        ("shard", {"kind": "shards", "rows_out": images}),
        ("pretrain", {"kind": "checkpoint", "seconds": seconds}),
    ):
        made = folder.parents[1] / stage / folder.name
        made.mkdir(parents=True)
        (made / "manifest.json").write_text(json.dumps(manifest))
        (made / "config.json").write_text(json.dumps({"steps": 12}))
        inputs.append({"name": stage, "stage": stage, "key": folder.name, "digest": folder.name})
    told = {"kind": "metrics", "type": "evaluate", "key": folder.name, "digest": folder.name}
    return with_manifest(table_artifact("metrics", folder), inputs=inputs, **told)


@pytest.fixture
def grid(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Artifact]]:
    cells, inputs = {}, {}
    for selection, values in KNN.items():
        for seed, knn in enumerate(values):
            name = f"{selection[:3]}-{seed}"
            cells[name] = {"selection": selection, "seed": str(seed)}
            inputs[f"metrics.{name}"] = evaluation(tmp_path / "objects" / "evaluate" / name, knn)
    return {"cells": cells}, inputs


@pytest.fixture
def compared(grid: Any, tmp_path: Path) -> Artifact:
    return artifact_of(Compare, grid[0], tmp_path / "out", grid[1])


def test_means_t_intervals_and_paired_differences(compared: Artifact) -> None:
    record = json.loads((compared.path / "comparison.json").read_text())
    rows = {row["variant"]["selection"]: row for row in record["rows"]}
    # t(0.975, 2) = 4.30265; balanced: mean .47, sd .0264575 -> half 4.30265 * .0264575 / sqrt(3) = .0657241
    balanced = rows["balanced"]["knn_trained"]
    assert balanced["mean"] == pytest.approx(0.47)
    assert balanced["lo"] == pytest.approx(0.47 - 0.0657241, abs=1e-5)
    assert balanced["hi"] == pytest.approx(0.47 + 0.0657241, abs=1e-5)
    # differences .05, .04, .06: mean .05, sd .01 -> half .0248414
    assert balanced["difference"] == pytest.approx(0.05)
    assert balanced["difference_lo"] == pytest.approx(0.05 - 0.0248414, abs=1e-5)
    assert rows["random"]["baseline"] and "difference" not in rows["random"]["knn_trained"]
    assert compared.manifest["metrics"]["knn_trained_balanced_difference"] == pytest.approx(0.05)
    assert compared.manifest["summary"].startswith("knn_trained: balanced 0.470, random 0.420")


def test_files_for_people_and_for_mlflow(compared: Artifact) -> None:
    report = compared.path / "report"
    page = (report / "comparison.md").read_text()
    assert "| selection | images | steps | seconds |\n|---|---|---|---|\n| balanced | 100 | 12 | 30 |" in page
    assert "| balanced | 0.470 (0.404 .. 0.536) | +0.050 (+0.025 .. +0.075) |" in page
    assert "| random | 0.420 (0.370 .. 0.470) | baseline |" in page
    assert "raw\\|x" in page
    assert "linear" not in page
    shown = (report / "comparison.html").read_text()
    assert shown.count('class="dots"') == 4, "values and differences of kNN and RankMe"
    assert "+0.050 (+0.025 .. +0.075)" in shown and "0.47 (0.404 .. 0.536)" in shown
    lines = (report / "comparison.csv").read_text().splitlines()
    assert lines[0] == "selection,seed,images,seconds,knn_trained,knn_trained_lo,knn_trained_hi,rankme_trained"
    assert len(lines) == 10
    table = json.loads((compared.path / "tables" / "comparison.json").read_text())
    assert table["columns"][:4] == ["selection", "images", "runs", "knn_trained"]
    assert len(table["data"]) == 3 and all(len(row) == len(table["columns"]) for row in table["data"])


def test_measures_of_evaluation_sets_are_named_by_their_set() -> None:
    assert [label(name) for name in ("test/knn_trained", "rankme_trained", "a/b")] == ["test kNN", "RankMe", "a b"]


def test_the_order_of_cells_does_not_matter(grid: Any, compared: Artifact, tmp_path: Path) -> None:
    turned = {"cells": dict(reversed(grid[0]["cells"].items()))}
    assert artifact_of(Compare, turned, tmp_path / "turned", grid[1]).digest == compared.digest


def test_other_sizes_are_remarked_and_other_images_refused(grid: Any, tmp_path: Path) -> None:
    params, inputs = grid
    fewer = evaluation(tmp_path / "other" / "evaluate" / "fewer", 0.5, images=60)
    events: list[Any] = []
    few = {"cells": {n: v for n, v in params["cells"].items() if n in ("ran-0", "bal-0")}}
    artifact_of(Compare, few, tmp_path / "a", {**inputs, "metrics.bal-0": fewer}, events=events)
    notes = [fields["text"] for kind, fields in events if kind == "note"]
    assert any("random 100" in note and "balanced 60" in note for note in notes)
    assert any("no interval" in note for note in notes)
    record = json.loads((tmp_path / "a" / "comparison.json").read_text())
    assert all(row["knn_trained"]["lo"] is None for row in record["rows"])
    other = evaluation(tmp_path / "other" / "evaluate" / "q", 0.5, digests={"bank": "b" * 32, "queries": "z" * 32})
    with pytest.raises(StageError, match=r"different images: let evaluate\.bank be pool"):
        artifact_of(Compare, params, tmp_path / "b", {**inputs, "metrics.bal-1": other})


def test_who_is_above_whom_beyond_chance(compared: Artifact) -> None:
    record = json.loads((compared.path / "comparison.json").read_text())
    ranked = [(row["variant"]["selection"], row["above"], row["below"]) for row in record["ranking"]]
    # balanced - random: .05 +- .025; balanced - raw: .12 +- .05; random - raw: .07 +- .075 (sd .03, t 4.30)
    assert ranked == [("balanced", 2, 0), ("random", 0, 1), ("raw|x", 0, 1)]
    assert record["main_effects"] is None
    assert "## Ranking by kNN" in (compared.path / "report" / "comparison.md").read_text()


def test_costs_stand_beside_the_comparison_and_not_in_its_digest(
    grid: Any, compared: Artifact, tmp_path: Path
) -> None:
    params, inputs = grid
    slower = {name: evaluation(tmp_path / "slow" / name, 0.0, seconds=90.0) for name in inputs}
    for name, artifact in slower.items():
        record = (inputs[name].path / "metrics.json").read_text()
        (artifact.path / "metrics.json").write_text(record)
    again = artifact_of(Compare, params, tmp_path / "again", slower)
    assert again.digest == compared.digest
    costs = json.loads((again.path / "costs.json").read_text())["training_seconds"]
    assert set(costs.values()) == {90.0} and set(costs) == set(params["cells"])
    assert Image.open(again.path / "report" / "cost.png").width > 300


def factorial(tmp_path: Path, value: Any) -> tuple[dict[str, Any], dict[str, Artifact]]:
    """Two objectives by three views by two seeds."""
    cells, inputs = {}, {}
    for number, (objective, views, seed) in enumerate(product(range(2), range(3), range(2))):
        name = f"cell{number}"
        cells[name] = {"objective": f"o{objective}", "views": f"v{views}", "seed": str(seed)}
        made = evaluation(tmp_path / "objects" / "evaluate" / name, value(objective, views, seed))
        inputs[f"metrics.{name}"] = made
    return {"cells": cells, "baseline": {"views": "v0"}}, inputs


def test_main_effects_of_a_grid_are_found_again(tmp_path: Path) -> None:
    params, inputs = factorial(tmp_path, lambda o, v, s: 0.5 + 0.1 * o + 0.02 * v + 0.01 * s)
    made = artifact_of(Compare, params, tmp_path / "out", inputs)
    found = json.loads((made.path / "comparison.json").read_text())["main_effects"]
    assert found["effects"]["objective"]["o1"]["effect"] == pytest.approx(0.05)
    assert found["effects"]["views"]["v0"]["effect"] == pytest.approx(-0.02)
    assert found["effects"]["views"]["v1"]["lo"] == pytest.approx(0, abs=1e-9)
    # squares: 12 * .05**2, 12 * .02**2 * 2 / 3, 12 * .005**2
    total = 0.03 + 0.0032 + 0.0003
    assert found["shares"] == pytest.approx(
        {"objective": 0.03 / total, "views": 0.0032 / total, "interactions": 0.0, "repetitions": 0.0003 / total},
        abs=1e-6,
    )
    page = (made.path / "report" / "comparison.md").read_text()
    assert "| objective | o1 | +0.050 (+0.050 .. +0.050) |" in page
    assert "What each axis is worth" in (made.path / "report" / "comparison.html").read_text()


def test_an_interaction_is_no_main_effect(tmp_path: Path) -> None:
    params, inputs = factorial(tmp_path, lambda o, v, s: 0.5 + 0.1 * (o == (v > 0)))
    del params["cells"]["cell11"], inputs["metrics.cell11"]
    made = artifact_of(Compare, params, tmp_path / "gap", inputs)
    assert json.loads((made.path / "comparison.json").read_text())["main_effects"] is None
    params, inputs = factorial(tmp_path / "whole", lambda o, v, s: 0.5 + 0.1 * (o == (v % 2)))
    made = artifact_of(Compare, params, tmp_path / "out", inputs)
    shares = json.loads((made.path / "comparison.json").read_text())["main_effects"]["shares"]
    assert shares["interactions"] > 0.8 and shares["repetitions"] == pytest.approx(0, abs=1e-9)


def test_clid_is_there_where_all_models_have_its_parts(grid: Any, tmp_path: Path) -> None:
    params, inputs = grid
    for number, artifact in enumerate(inputs.values()):
        path = artifact.path / "metrics.json"
        record = json.loads(path.read_text())
        record["metrics"] |= {
            "cluster_learnability_trained": 0.1 * number,
            "intrinsic_dimension_trained": 3.0 + number,
        }
        path.write_text(json.dumps(record))
    made = artifact_of(Compare, params, tmp_path / "out", inputs)
    record = json.loads((made.path / "comparison.json").read_text())
    values = [cell["metrics"]["clid_trained"] for cell in record["cells"]]
    assert record["measures"][-1] == "clid_trained" and sum(values) == pytest.approx(0, abs=1e-9)
    assert max(values) == pytest.approx(2 * (8 - 4) / (60 / 9) ** 0.5)
    two = {name: params["cells"][name] for name in ("ran-0", "bal-0")}
    some = {f"metrics.{name}": inputs[f"metrics.{name}"] for name in two}
    made = artifact_of(Compare, {"cells": two}, tmp_path / "two", some)
    assert "clid_trained" not in json.loads((made.path / "comparison.json").read_text())["measures"]


def test_parameters_that_make_no_grid_are_refused() -> None:
    cells = {"x": {"selection": "random", "seed": "0"}}
    for wrong, message in (
        ({"cells": {}}, "at least one evaluation"),
        ({"cells": {**cells, "y": {"seed": "0"}}}, "same axes"),
        ({"cells": cells, "repeats": "sed"}, "no axis 'sed'"),
        ({"cells": cells, "baseline": {"seed": "0"}}, "axis of repetitions"),
    ):
        with pytest.raises(ValidationError, match=message):
            CompareParams(**wrong)


def with_features(artifact: Artifact, features: NDArray[np.float32], without: int | None = None) -> None:
    """The pooled features of an evaluation's images, whose order differs from one evaluation to the next.

    without: a picture that this one could not read.
    """
    order = np.random.default_rng(list(artifact.path.name.encode())).permutation(len(features))
    order = order[order != without]
    table = pa.table(
        {
            "image_id": [f"{row:04x}" for row in order],
            "role": ["bank" if row % 2 else "queries" for row in order],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(features[order].reshape(-1)), features.shape[1]),
        }
    )
    folder = artifact.path / "features" / "pool"
    folder.mkdir(parents=True)
    with pa.ipc.new_file(str(folder / "trained-backbone-pooled.arrow"), table.schema) as writer:
        writer.write_table(table)


def test_how_alike_variants_are(grid: Any, tmp_path: Path) -> None:
    """`raw` is `random` turned and scaled; each training of `balanced` is something else."""
    generator = np.random.default_rng(0)
    shared = generator.standard_normal((400, 6)).astype(np.float32)
    turn = np.linalg.qr(generator.standard_normal((6, 6)))[0].astype(np.float32)
    params, inputs = grid
    for name, artifact in inputs.items():
        own = generator.standard_normal((400, 6)).astype(np.float32)
        with_features(artifact, {"ran": shared, "raw": 3 * shared @ turn, "bal": own}[name[8:11]], int(name[-1]))
    made = artifact_of(Compare, params, tmp_path / "out", inputs)
    found = json.loads((made.path / "comparison.json").read_text())["similarity"]
    assert (found["variants"], found["images"]) == (["balanced", "random", "raw|x"], 397)
    cka = np.array(found["cka"])
    assert np.array_equal(cka, cka.T)
    assert cka[1:, 1:] == pytest.approx(1.0, abs=1e-4)
    assert (cka[0] < 0.1).all(), "of independent features about width / images"
    assert "| random | " in (made.path / "report" / "comparison.md").read_text().split("How alike")[1]
    assert 'class="heat"' in (made.path / "report" / "comparison.html").read_text()


def test_one_training_each_has_no_likeness_of_its_own(tmp_path: Path) -> None:
    features = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    paths = {}
    for name in ("a", "b"):
        artifact = evaluation(tmp_path / "objects" / "evaluate" / name, 0.5)
        with_features(artifact, features)
        paths[name] = {"0": artifact.path}
    assert similarity(paths) == {"variants": ["a", "b"], "cka": [[None, 1.0], [1.0, None]], "images": 50}
    (paths["a"]["0"] / "features" / "pool" / "trained-backbone-pooled.arrow").unlink()
    assert similarity(paths) is None and similarity({"a": paths["a"]}) is None


def test_evaluations_of_earlier_runs_are_read_where_they_lie(grid: Any, compared: Artifact, tmp_path: Path) -> None:
    params, inputs = grid
    runs = {name.removeprefix("metrics."): str(artifact.path) for name, artifact in inputs.items()}
    made = artifact_of(Compare, {**params, "runs": runs}, tmp_path / "out", {})
    assert made.digest == compared.digest
    stage = Compare(CompareParams(**params, runs={**runs, "ran-0": str(tmp_path / "gone")}))
    with pytest.raises(StageError, match="an evaluation cannot be read"):
        stage.externals()
    assert Compare(CompareParams(**params, runs={})).unmet(
        [f"metrics.{name}" for name in runs if name != "raw-2"]
    ) == ["cells.raw-2: connect its evaluation as inputs.metrics.raw-2, or name one in runs"]
