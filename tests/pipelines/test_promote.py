"""`curatrain promote`: the store's record, gc, and the registry's alias, with MLflow and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines import tracking
from pipelines.cli import app
from pipelines.collect import find_garbage
from pipelines.errors import UsageError
from pipelines.promote import Promoted, promote
from pipelines.promotions import holder, promotions
from pipelines.store import Store
from pipelines.tracking.launch import untold_promotions
from pipelines.tracking.mirror import Outcome, mirror_pending, mirror_run
from tests.pipelines.handwritten_run import HandwrittenRun, key_of
from tests.stages.register.test_gate import evidence


def commit(store: Path, stage: str, key: str, inputs: tuple[tuple[str, str, str], ...] = (), **files: Any) -> Path:
    """An artifact with JSON files and a manifest, written by hand."""
    folder = store / "objects" / stage / key
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    entries = [{"name": name, "stage": of, "key": at, "digest": at} for name, of, at in inputs]
    manifest = {"kind": "model", "type": stage, "stage": stage, "key": key, "digest": key, "inputs": entries}
    manifest |= {"params": {"name": "toy-model"}, "files": [], "metrics": {}, "seconds": 1.0, "recipe": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def model(store: Path, name: str, right: int, **record: Any) -> str:
    """A registered model whose kNN had `right` of 400 queries; returns the key."""
    key = key_of(name)
    commit(store, "evaluate", key, metrics=evidence(right, **record).record)
    commit(store, "register", key, (("metrics", "evaluate", key),))
    return key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def promoted(store: Store, key: str, **options: Any) -> Promoted:
    return promote(store, f"register/{key[:12]}", **options)


def test_the_alias_moves_only_through_the_gate(store: Store) -> None:
    good, worse, better = (model(store.root, name, right) for name, right in (("a", 300), ("b", 200), ("c", 330)))
    first = promoted(store, good)
    assert first.passed and first.moved and not first.over
    assert "no model of this store has reached MLflow" in first.sentence
    refused = promoted(store, worse)
    assert not refused.passed and "the gate does not hold" in refused.sentence
    champion = holder(store.root, "toy-model", "champion")
    assert champion is not None and champion.key == good
    assert promoted(store, better, dry_run=True).passed and len(promotions(store.root)) == 1
    assert promoted(store, better).over == f"toy-model {good[:12]}"
    champion = holder(store.root, "toy-model", "champion")
    assert champion is not None and (champion.key, champion.over) == (better, good)
    assert any(text.startswith("knn not worse: +0.075 (") for text in champion.checks)
    assert "already" in promoted(store, better).sentence and len(promotions(store.root)) == 2


def test_gc_keeps_the_champion_with_all_that_it_came_from(store: Store) -> None:
    champion, other = model(store.root, "a", 300), model(store.root, "b", 310)
    promoted(store, champion)
    assert {(item.type, item.key) for item in find_garbage(store, 0)} == {("register", other), ("evaluate", other)}


def test_a_waiver_is_recorded_with_its_reason(store: Store) -> None:
    promoted(store, model(store.root, "a", 300))
    newer = model(store.root, "b", 100, protocol={"id": "v2"})
    assert not promoted(store, newer).passed
    with pytest.raises(UsageError, match="say why with --because"):
        promoted(store, newer, waive=["comparable"])
    assert promoted(store, newer, waive=["comparable"], reason="v2 takes the place of v1").moved
    record = promotions(store.root)[-1]
    assert record.reason == "v2 takes the place of v1"
    assert any(text.startswith("comparable: waived, ") for text in record.checks)


def test_models_are_found_by_their_names(store: Store) -> None:
    key = model(store.root, "a", 300)
    (store.root / "registrations").mkdir()
    for version, of in (("1", key_of("gone")), ("2", key)):
        record = {"name": "toy-model", "version": version, "alias": "candidate", "tracking_uri": "http://127.0.0.1:9"}
        (store.root / "registrations" / f"{of}.json").write_text(json.dumps(record))
    for name in ("toy-model@candidate", "toy-model/2", "models:/toy-model/2", "register/"):
        assert promote(store, name, dry_run=True).key == key
    for name, message in (("toy-model/1", "no models"), ("other@candidate", "no models"), ("nothing", "no runs")):
        with pytest.raises(UsageError, match=message):
            promote(store, name, dry_run=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"alias": "v2"}, "reserved"), ({"alias": ""}, "no alias"), ({"waive": ["measured"]}, "can be waived")],
)
def test_mistakes_are_named(store: Store, options: dict[str, Any], message: str) -> None:
    key = model(store.root, "a", 300)
    with pytest.raises(UsageError, match=message):
        promoted(store, key, **options)


def test_the_command_tells_the_checks_and_ends_with_1_where_the_gate_is_shut(store: Store) -> None:
    keys = [model(store.root, name, right) for name, right in (("a", 300), ("b", 200))]
    results = [CliRunner().invoke(app, ["promote", f"register/{key}", "--store", str(store.root)]) for key in keys]
    assert [result.exit_code for result in results] == [0, 1], [result.output for result in results]
    assert "FAILS" in results[1].output and "does not become toy-model@champion" in results[1].output
    told = CliRunner().invoke(app, ["promote", f"register/{keys[0]}", "--json", "--store", str(store.root)])
    assert json.loads(told.stdout)["passed"] is True


def registered(run: HandwrittenRun, saved_model: Path, right: int) -> str:
    """The run's model with an evaluation, mirrored to MLflow."""
    run.whole(saved_model)
    key = key_of("register")
    commit(run.store, "evaluate", key, metrics=evidence(right).record)
    commit(run.store, "register", key, (("metrics", "evaluate", key),))
    return key


def test_the_registrys_alias_follows_with_the_reasons(tracked_store: Path, saved_model: Path) -> None:
    from mlflow import MlflowClient

    run = HandwrittenRun(tracked_store)
    key = registered(run, saved_model, 300)
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    found = promote(Store(tracked_store), "toy-model@candidate", reason="first of its kind")
    assert found.moved and found.mlflow == "moved in MLflow", found
    client = MlflowClient(tracking.tracking_uri(tracked_store))
    version = client.get_model_version_by_alias("toy-model", "champion")
    assert version.tags["curatrain.key"] == key
    assert version.tags["curatrain.gate.champion"].startswith("guarded: no figure")
    assert version.tags["curatrain.reason.champion"] == "first of its kind"
    assert untold_promotions(tracked_store) == []


def test_a_champion_of_another_store_is_beaten_by_its_registered_figures(
    tracked_store: Path, saved_model: Path
) -> None:
    """Both stores share a registry; this one does not hold the champion's files."""
    from mlflow import MlflowClient

    run = HandwrittenRun(tracked_store)
    key = registered(run, saved_model, 300)
    mirror_run(tracked_store, run.id)
    client = MlflowClient(tracking.tracking_uri(tracked_store))
    client.set_registered_model_alias("toy-model", "champion", "1")
    for name, value in (
        ("protocol", "v1"),
        ("split.bank", "b"),
        ("split.queries", "q"),
        ("curatrain.key", "elsewhere"),
    ):
        client.set_model_version_tag("toy-model", "1", name, value)
    worse = promote(Store(tracked_store), f"register/{key}", measures=["knn"], dry_run=True)
    assert worse.over == "toy-model version 1"
    assert [check.name for check in worse.verdict.checks if check.holds][-1] == "comparable"  # type: ignore[union-attr]


def test_a_promotion_that_mlflow_missed_is_told_later(
    tracked_store: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    run = HandwrittenRun(tracked_store)
    registered(run, saved_model, 300)
    early = promote(Store(tracked_store), run.id)
    assert early.moved and "no model of this store has reached MLflow" in early.mlflow
    assert untold_promotions(tracked_store) == []  # its model has no version yet
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    client = MlflowClient(tracking.tracking_uri(tracked_store))
    assert str(client.get_model_version_by_alias("toy-model", "champion").version) == "1"
    later = promote(Store(tracked_store), run.id, "release")
    assert later.mlflow == "moved in MLflow"
    registration = tracked_store / "registrations" / f"{key_of('register')}.json"
    here = registration.read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    registration.write_text(json.dumps({**json.loads(here), "tracking_uri": "http://127.0.0.1:9"}))
    down = promote(Store(tracked_store), run.id, "staging")
    assert down.moved and "does not answer" in down.mlflow
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    registration.write_text(here)
    assert mirror_pending(tracked_store) is Outcome.DELIVERED
    assert str(client.get_model_version_by_alias("toy-model", "staging").version) == "1"
