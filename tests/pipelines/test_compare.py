"""`curatrain compare` on a few dozen drawings: what is shared runs once, a second submit runs nothing."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipelines.api import Options, Pipeline, Run
from pipelines.cli import app
from pipelines.compare import comparison_spec, fitting_steps
from pipelines.compare_axes import (
    GRIDS,
    chosen_axes,
    grid_preset,
    parse_axis,
    parse_budgets,
    parse_objectives,
    parse_selections,
    parse_views,
)
from pipelines.compare_runs import runs_spec
from pipelines.errors import SpecError, UsageError
from pipelines.events import STAGE_STARTED
from pipelines.references import find_artifact
from pipelines.step_costs import StepCosts
from pipelines.store import Store
from stages.evaluate import Evaluate
from tests.pipelines import small

LOCAL = Options(local=True, track=False)
CHANGES: dict[str, Any] = {
    "pretrain": {"steps": 2, "checkpoint_every": 2, "batch": 8},
    "curate": {"target": 12, "held_back": 0.0},
    # random weights put all drawings close together: only equal pixels are to count
    "dedup": {"methods": ["exact"], "leak_threshold": 1.0, "leak_radius": -1, "leak_pdq_radius": -1},
}


def submitted(folder: Path, store: Path, selections: str, seeds: int) -> Run:
    spec = comparison_spec(small.document(folder, **CHANGES), parse_selections(selections), seeds=seeds)
    return Pipeline(spec.document()).submit(store, LOCAL)


def states(run: Run, state: str) -> set[str]:
    return {stage.name for stage in run.state().stages.values() if stage.state == state}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty drawings, and twenty of them again with the same pixels in other bytes."""
    folder = small.fill(tmp_path_factory.mktemp("pictures"))
    for path in sorted(folder.rglob("*.png"))[::3]:
        Image.open(path).save(path.with_stem(f"{path.stem}-again"), compress_level=1)
    return folder


@pytest.fixture(scope="module")
def compared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = submitted(folder, tmp_path_factory.mktemp("store"), "raw,random,balanced", seeds=1)
    assert run.status == "done", {s.name: s.error for s in run.state().stages.values() if s.error}
    return run


def comparison(run: Run) -> dict[str, Any]:
    return json.loads((run.artifact("compare").path / "comparison.json").read_text())


def test_what_is_shared_is_one_stage(compared: Run) -> None:
    types = [stage.type for stage in compared.state().stages.values()]
    counts = {name: types.count(name) for name in sorted(set(types))}
    assert counts == {
        "crawl": 1, "ingest": 1, "embed": 1, "dedup": 1, "curate": 3, "shard": 3, "pretrain": 3, "evaluate": 3,
        "compare": 1,
    }  # fmt: skip
    started = [event["stage"] for _, event in compared.record.log.read() if event["kind"] == STAGE_STARTED]
    assert sorted(started) == sorted(compared.state().stages)


def test_the_table_compares_alike_with_alike(compared: Run) -> None:
    record = comparison(compared)
    assert [row["variant"]["selection"] for row in record["rows"]] == ["balanced", "random", "raw"]
    assert {row["images"] for row in record["rows"]} == {12}
    assert record["baseline"] == {"selection": "random"}
    for row in record["rows"]:
        own = next(cell for cell in record["cells"] if cell["values"]["selection"] == row["variant"]["selection"])
        assert row["knn_trained"]["mean"] == pytest.approx(own["metrics"]["knn_trained"])
        assert row["knn_trained"]["lo"] is None
    kept = {name: compared.artifact(f"curate-{name}").table().to_pylist() for name in ("raw", "random")}
    copies = {row["image_id"] for row in kept["random"] if row["reason"] == "duplicate"}
    assert len(copies) == 20
    trained = sorted(copies & {row["image_id"] for row in kept["raw"] if row["role"] == "train"})
    assert trained, "raw trains on copies"
    told = {entry["stage"]: entry["text"] for entry in compared.why(trained[0])}
    assert told["pretrain-raw-0"].startswith("trained on") and told["evaluate-random-0"].startswith("not trained on")


def test_more_seeds_run_only_what_is_new_and_the_rest_is_reused(folder: Path, compared: Run) -> None:
    more = submitted(folder, compared.record.store.root, "raw,random,balanced", seeds=1)
    assert states(more, "done") == set()
    more = submitted(folder, compared.record.store.root, "random", seeds=2)
    assert states(more, "done") == {"pretrain-random-1", "evaluate-random-1", "compare"}
    (row,) = comparison(more)["rows"]
    assert row["runs"] == 2 and row["rankme_trained"]["lo"] < row["rankme_trained"]["mean"]


def test_it_goes_on_after_a_failure(folder: Path, compared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Evaluate, ctx: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = compared.record.store.root
    with monkeypatch.context() as patched:
        patched.setattr(Evaluate, "run", full)
        broken = submitted(folder, store, "balanced,fine: {clusters: 9}", seeds=1)
    assert broken.status == "failed" and states(broken, "failed") == {"evaluate-fine-0"}
    assert states(broken, "blocked") == {"compare"}
    resumed = Pipeline(broken.record.spec_document()).submit(store, LOCAL, parent=broken.id)
    assert resumed.status == "done" and states(resumed, "done") == {"evaluate-fine-0", "compare"}


def test_the_command_plans(folder: Path, compared: Run, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(small.document(folder, **CHANGES)))
    arguments = ["compare", str(path), "--selections", "random, balanced", "--budget", "12", "--seeds", "1", "--plan"]
    made = CliRunner().invoke(app, [*arguments, "--json", "--store", str(compared.record.store.root)])
    assert made.exit_code == 0, made.output
    actions = {step["stage"]: step["action"] for step in json.loads(made.stdout)["steps"]}
    assert actions.pop("compare") in ("run", "maybe")
    assert set(actions.values()) == {"reuse"}


def test_runs_that_are_there_are_compared_without_running_them_again(folder: Path, compared: Run) -> None:
    store = compared.record.store
    stages = [f"{compared.id}/evaluate-{name}-0" for name in ("raw", "random")]
    run = Pipeline(runs_spec(stages, store).document()).submit(store.root, LOCAL)
    assert run.status == "done" and set(run.state().stages) == {"compare"}
    record = comparison(run)
    assert {row["variant"]["run"]: row["baseline"] for row in record["rows"]} == {
        "raw": True,
        "random": False,
    }
    assert np.array(record["similarity"]["cka"])[[0, 1], [1, 0]] == pytest.approx(record["similarity"]["cka"][0][1])
    known = {row["variant"]["selection"]: row["knn_trained"]["mean"] for row in comparison(compared)["rows"]}
    assert [row["knn_trained"]["mean"] for row in record["rows"]] == [known["random"], known["raw"]]
    assert Pipeline(runs_spec(stages, store).document()).plan(store.root).steps["compare"].action == "reuse"
    with pytest.raises(UsageError, match="stands twice"):
        runs_spec([stages[0], stages[0]], store)
    with pytest.raises(UsageError, match="3 stages that make a metrics; say which: evaluate-raw-0"):
        runs_spec([compared.id, stages[0]], store)


def test_axes_budgets_and_overrides(folder: Path) -> None:
    document = small.document(folder)
    axes = [*parse_budgets("8,0.5"), parse_axis("pretrain.objective=simclr,byol")]
    overrides = ["pretrain.steps=3", "curate-random-8.clusters=4"]
    spec = comparison_spec(document, parse_selections("random,semdedup"), seeds=1, axes=axes, overrides=overrides)
    bodies = spec.document()["stages"]
    assert bodies["curate-random-8"]["clusters"] == 4
    assert bodies["curate-semdedup-0_5"]["target"] == 0.5
    assert bodies["pretrain-random-8-byol-0"]["objective"]["name"] == "byol"
    assert {body["steps"] for body in bodies.values() if body["uses"] == "pretrain"} == {3}
    assert len(bodies["compare"]["cells"]) == 8
    one = comparison_spec(document, parse_selections("random"), seeds=1, axes=parse_budgets("8"))
    assert one.document()["stages"]["curate-random"]["target"] == 8


def test_each_objective_has_its_own_defaults(folder: Path) -> None:
    """What follows from an objective (views, backbone) is chosen anew for each; what the spec says stays."""
    document = small.document(folder)
    document["stages"]["pretrain"] = {"objective": {"name": "dcl", "temperature": 0.3}, "batch": 8, "steps": 2}
    bodies = comparison_spec(document, axes=parse_objectives("dcl,mae"), seeds=1).document()["stages"]
    assert "curate" in bodies and bodies["compare"]["baseline"] == {"objective": "dcl"}
    dcl, mae = bodies["pretrain-dcl-0"], bodies["pretrain-mae-0"]
    assert (dcl["views"]["crops"], mae["views"]["crops"]) == (2, 1)
    assert dcl["objective"]["temperature"] == 0.3 and dcl["backbone"] != mae["backbone"]


def test_views_take_the_place_of_the_specs_own(folder: Path) -> None:
    document = small.document(folder, pretrain={"views": {"jitter": 0.9}})
    bodies = comparison_spec(document, axes=parse_views("crop_resize,crop_only"), seeds=1).document()["stages"]
    assert [bodies[f"pretrain-{name}-0"]["views"]["resize"] for name in ("crop_resize", "crop_only")] == [True, False]
    assert bodies["pretrain-crop_resize-0"]["views"]["jitter"] == 0.0


def test_a_time_becomes_steps_for_each_variant_alike(folder: Path) -> None:
    asked = []

    def step_seconds(body: Any) -> float:
        asked.append(body)
        return {"simclr": 0.1, "byol": 0.2}[body["objective"]["name"]]

    axes = [*parse_objectives("simclr,byol"), *parse_budgets("30s,1m")]
    spec = comparison_spec(small.document(folder), axes=axes, seeds=2, step_seconds=step_seconds)
    steps = {name: body["steps"] for name, body in spec.document()["stages"].items() if body["uses"] == "pretrain"}
    assert steps == {
        "pretrain-simclr-30s-0": 300, "pretrain-simclr-30s-1": 300, "pretrain-simclr-1m-0": 600,
        "pretrain-simclr-1m-1": 600, "pretrain-byol-30s-0": 150, "pretrain-byol-30s-1": 150,
        "pretrain-byol-1m-0": 300, "pretrain-byol-1m-1": 300,
    }  # fmt: skip
    assert len({json.dumps(body, sort_keys=True) for body in asked}) == 2
    assert spec.document()["stages"]["compare"]["remarks"][:2] == [
        "30s of simclr are 300 steps, by 0.1 s a step measured beforehand",
        "1m of simclr are 600 steps, by 0.1 s a step measured beforehand",
    ]
    one = comparison_spec(
        small.document(folder), axes=[*axes[:1], *parse_budgets("3s")], seeds=1, step_seconds=lambda _: 0.1
    )
    assert one.document()["stages"]["pretrain-byol-0"]["steps"] == 30


@pytest.mark.parametrize(
    ("step", "steps"),
    [(0.1, 300), (0.0999, 300), (0.0973, 300), (0.0967, 310), (0.007, 4200), (1.0, 30), (7.0, 20), (90.0, 20)],
)
def test_steps_of_a_time_have_two_digits_and_are_twenty_at_least(step: float, steps: int) -> None:
    assert fitting_steps(30, step) == steps


@pytest.mark.slow
def test_a_comparison_by_time_runs_to_its_end(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(small.document(folder, **{**CHANGES, "pretrain": {"batch": 8}})))
    arguments = ["compare", str(path), "--objectives", "simclr,byol", "--budget", "0.2s", "--seeds", "2", "--local"]
    done = CliRunner().invoke(app, [*arguments, "--no-track", "--store", str(tmp_path / "store"), "--json"])
    assert done.exit_code == 0, done.output
    (record,) = json.loads(done.stdout)["comparisons"].values()
    costs = [json.loads(file.read_text())["seconds"] for file in (tmp_path / "store" / "step_costs").iterdir()]
    assert len(costs) == 2
    assert {row["steps"] for row in record["rows"]} <= {fitting_steps(0.2, cost) for cost in costs}
    assert all(row["rankme_trained"]["lo"] < row["rankme_trained"]["hi"] for row in record["rows"])
    assert {c["values"]["seed"] for c in record["cells"]} == {"0", "1"} and record["similarity"] is not None
    assert sum("s a step measured beforehand" in remark for remark in record["remarks"]) == 2


def test_a_step_is_measured_once_and_its_cost_kept(tmp_path: Path) -> None:
    told: list[str] = []
    costs = StepCosts(Store(tmp_path / "store"), told.append)
    body = {"objective": "simclr", "backbone": "test_resnet", "batch": 8, "image_size": 16, "threads": 1}
    seconds = costs(body)
    assert 0 < seconds < 5 and len(told) == 1
    assert costs(body) == seconds and len(told) == 1


def test_options_of_a_grid_give_way_to_those_given() -> None:
    chosen, axes = chosen_axes("views-data", None, "simclr,byol", None, None)
    assert [name for name, _ in chosen] == ["random"]
    assert {axis.name: list(axis.options) for axis in axes} == {
        "objective": ["simclr", "byol"],
        "views": ["paper", "shared_colour", "crop_resize", "crop_only"],
        "budget": ["0.1", "0.9"],
    }
    chosen, axes = chosen_axes(None, None, None, None, None)
    assert [name for name, _ in chosen] == ["raw", "random", "balanced"] and axes == []


@pytest.mark.parametrize("name", GRIDS)
def test_grids_make_specs(folder: Path, name: str) -> None:
    document = small.document(folder)
    document["stages"]["pretrain"] = {"preset": "small", "image_size": 32, "batch": 8, "steps": 2}
    chosen, axes = chosen_axes(name, None, None, None, None)
    bodies = comparison_spec(document, chosen, axes=axes, seeds=1).document()["stages"]
    many = 1
    for axis in axes:
        many *= len(axis.options)
    assert sum(body["uses"] == "pretrain" for body in bodies.values()) == many == len(bodies["compare"]["cells"])


def test_a_preset_takes_the_common_target() -> None:
    ((name, changes),) = parse_selections("dinov2")
    assert name == "dinov2" and changes["method"] == "mixture" and "target" not in changes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: parse_selections("balancd"), "no selection 'balancd' .did you mean 'balanced'"),
        (lambda folder: parse_selections("random,random"), "stands twice"),
        (lambda folder: parse_selections("{"), "expected names"),
        (lambda folder: parse_budgets("many"), "expected a number"),
        (lambda folder: parse_objectives("simclr,byoll"), "no 'byoll' .did you mean 'byol'"),
        (lambda folder: parse_views("crop,crop_only"), "known are paper"),
        (lambda folder: grid_preset("view-data"), "did you mean 'views-data'"),
        (lambda folder: comparison_spec(small.document(folder), seeds=1), "nothing to compare"),
        (lambda folder: parse_axis("objective"), "expected TYPE.PARAM"),
        (
            lambda folder: comparison_spec({"name": "x", "stages": {"crawl": {"sources": ["a"]}}}, [("random", {})]),
            "no stage of type 'curate'",
        ),
        (
            lambda folder: comparison_spec(
                small.document(folder), [("x", {})], axes=[parse_axis("pretrian.objective=byol")]
            ),
            "no stage of type 'pretrian' .did you mean 'pretrain'",
        ),
        (
            lambda folder: comparison_spec(small.document(folder), [("x", {"clusterz": 3})]),
            "curate-x.clusterz: unknown parameter .did you mean 'clusters'",
        ),
        (
            lambda folder: comparison_spec(small.document(folder), [("x", {})], overrides=["curate-y.clusters=3"]),
            "no stage 'curate-y'",
        ),
    ],
)
def test_mistakes_are_named(folder: Path, call: Any, message: str) -> None:
    with pytest.raises((UsageError, SpecError), match=message):
        call(folder)


def plant_blind_pair(blind: Path, seeing: Path) -> set[str]:
    """Give the two held-out images that `seeing` tells apart best one and the same vector in `blind`."""
    name = "features/pool/trained-backbone-pooled.arrow"
    with pa.memory_map(str(seeing / name)) as source:
        told = pa.ipc.open_file(source).read_all()
    asked = np.array(told["role"].to_pylist()) == "queries"
    x = np.array(told["vector"].to_pylist())[asked]
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    i, j = np.unravel_index(np.argmin(x @ x.T), (len(x), len(x)))
    pair = set(np.array(told["image_id"].to_pylist())[asked][[i, j]].tolist())
    with pa.memory_map(str(blind / name)) as source:
        table = pa.ipc.open_file(source).read_all()
    rows = [row for row, image_id in enumerate(table["image_id"].to_pylist()) if image_id in pair]
    vectors = table["vector"].to_pylist()
    vectors[rows[1]] = vectors[rows[0]]
    field = table.schema.field("vector")
    table = table.set_column(table.column_names.index("vector"), field, pa.array(vectors, field.type))
    (blind / name).unlink()
    with pa.ipc.new_file(str(blind / name), table.schema) as writer:
        writer.write_table(table)
    return pair


def test_runs_are_held_against_each_other_image_by_image(compared: Run, tmp_path: Path) -> None:
    store = Store(shutil.copytree(compared.record.store.root, tmp_path / "store"))
    names = [f"{compared.id}/evaluate-{name}-0" for name in ("raw", "random")]
    raw, random = (find_artifact("metrics", f"run:{name}", store)[2].path for name in names)
    pair = plant_blind_pair(blind=raw, seeing=random)
    overrides = ["compare.memorisation.images=5", "compare.memorisation.views=3"]
    spec = runs_spec(names, store, memorisation=True, overrides=overrides)
    run = Pipeline(spec.document()).submit(store.root, LOCAL)
    assert run.status == "done", run.state().stages["compare"].error
    artifact, record = run.artifact("compare"), comparison(run)

    found = {(p["blind"], p["seeing"]): p["found"] for p in record["blind_pairs"]["pairs"]}
    assert set(found) == {("raw", "random"), ("random", "raw")} and record["blind_pairs"]["held_out"]
    assert artifact.manifest["metrics"]["blind_pairs_raw_against_random"] == found["raw", "random"] >= 1
    rows = pq.read_table(artifact.path / "blind_pairs").to_pylist()
    first = next(row for row in rows if row["blind"] == "raw")
    assert {first["image_a"], first["image_b"]} == pair
    assert first["cosine_blind"] == pytest.approx(1) and first["cosine_seeing"] < 0.6

    trained = {
        name: {r["image_id"] for r in compared.artifact(f"curate-{name}").table().to_pylist() if r["role"] == "train"}
        for name in ("raw", "random")
    }
    scores = pq.read_table(artifact.path / "memorisation").to_pylist()
    kinds = {kind: {r["image_id"] for r in scores if r["trained_by"] == kind} for kind in ("first", "second")}
    assert kinds["first"] and kinds["first"] <= trained["raw"] - trained["random"]
    assert kinds["second"] and kinds["second"] <= trained["random"] - trained["raw"]
    (told,) = record["memorisation"]["pairs"]
    assert told["reason"] == "" and told["views"] == 4 and told["passes"] == 8 * len(scores)
    for way, kind in zip(told["directions"], kinds, strict=True):
        own, *controls = way["groups"]
        sign = 1 if kind == "first" else -1
        mean = np.mean([sign * r["score"] for r in scores if r["trained_by"] == kind])
        assert own["images"] == len(kinds[kind]) and own["mean"] == pytest.approx(mean, abs=1e-5)
        assert own["lo"] <= own["mean"] <= own["hi"] and controls[-1]["kind"] == "neither"
        figure = f"memorisation_{way['trained']}_against_{way['reference']}_own"
        assert artifact.manifest["metrics"][figure] == own["mean"]

    page = (artifact.path / "report" / "comparison.html").read_text()
    assert len(page) < 2_000_000 and page.count('class="pair"') >= 1
    assert "raw takes for alike what random sees as different" in page and "Memorised most by random" in page
    assert "Features are centred" in page and "forward passes" in (artifact.path / "report/comparison.md").read_text()
    tables = {path.stem for path in (artifact.path / "tables").iterdir()}
    assert tables == {"comparison", "blind_pair_counts", "memorisation_scores"}
    with pytest.raises(UsageError, match=r"only compare\.PARAM can be set"):
        runs_spec(names, store, overrides=["pretrain.steps=4"])
    with pytest.raises(SpecError, match=r"below \(0.99\) has to be at most above \(0.95\)"):
        runs_spec(names, store, overrides=["compare.blind_pairs.below=0.99"])
