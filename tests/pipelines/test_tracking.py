"""The mirror against real MLflow: a SQLite database, and a server that goes away and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines import tracking
from pipelines.errors import UsageError
from pipelines.tracking.address import artifact_location, mirror_environment
from pipelines.tracking.mirror import Outcome, mirror_pending, mirror_run
from pipelines.tracking.state import read_state
from pipelines.tracking.values import flat_params
from tests.pipelines.handwritten_run import HandwrittenRun, key_of


def runs_of(store: Path) -> dict[str, Run]:
    """Every MLflow run of the store by name; a name that stands twice fails."""
    client = MlflowClient(tracking.tracking_uri(store))
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    found = {run.info.run_name: run for run in runs}
    assert len(found) == len(runs)
    return found


def artifacts_of(store: Path, run: Run) -> set[str]:
    client = MlflowClient(tracking.tracking_uri(store))
    top = client.list_artifacts(run.info.run_id)
    below = [f for entry in top if entry.is_dir for f in client.list_artifacts(run.info.run_id, entry.path)]
    return {f.path for f in [*top, *below] if not f.is_dir}


def everything(store: Path) -> dict[str, object]:
    """All that a person could see in MLflow of a store, to compare before and after a delivery."""
    client = MlflowClient(tracking.tracking_uri(store))
    seen: dict[str, object] = {}
    for name, run in runs_of(store).items():
        history = {
            key: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        inputs = sorted((i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs)
        outputs = [o.model_id for o in run.outputs.model_outputs] if run.outputs else []
        seen[name] = (
            run.data.params,
            run.data.tags,
            run.info.status,
            history,
            inputs,
            outputs,
            artifacts_of(store, run),
        )
    versions = client.search_model_versions()
    seen["versions"] = [(v.name, v.version, v.source, tuple(sorted(v.tags.items()))) for v in versions]
    return seen


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_becomes_a_parent_and_a_child_per_stage(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.whole()
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    found = runs_of(tracked_store)
    assert set(found) == {run.id, "curate", "pretrain"}
    parent, curate, pretrain = found[run.id], found["curate"], found["pretrain"]
    assert {r.info.status for r in found.values()} == {"FINISHED"}
    assert curate.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert curate.data.params == {"clusters": "5", "nested.ratio": "0.5", "nested.sizes": "[1, 2]"}
    assert curate.data.metrics == {"kept_share": 0.4, "rows_in": 100, "rows_out": 40, "seconds": 1.5}
    assert curate.data.tags["curatrain.key"] == key_of("curate")
    assert "two clusters were empty" in curate.data.tags["mlflow.note.content"]
    assert "| pretrain | run | 100 | 40 | 1.5 |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["curate.kept_share"] == 0.4
    assert artifacts_of(tracked_store, parent) == {"spec.yaml", "plan.json", "report.md", "pipeline.svg"}
    assert artifacts_of(tracked_store, curate) == {"manifest.json", "report/sheet.png", "report/notes.md"}
    datasets = {i.tags[0].value: i.dataset for i in pretrain.inputs.dataset_inputs}
    assert datasets["selection"].name == f"curate/{key_of('curate')[:16]}"
    assert datasets["selection"].digest == key_of("curate!")[:16]
    link = tracking.run_link(tracked_store, run.id)
    assert link is not None and parent.info.run_id in link and link.endswith("?workflowType=machine_learning")


def test_a_second_delivery_adds_nothing(tracked_store: Path, saved_model: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.whole(saved_model)
    mirror_run(tracked_store, run.id)
    before = everything(tracked_store)
    (run.path / "mirror.json").unlink()
    mirror_run(tracked_store, run.id)
    assert everything(tracked_store) == before
    assert read_state(run.path).skipped == []


def test_repeated_steps_of_a_curve_are_delivered_once(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.start()
    run.event("stage_started", "pretrain", key=key_of("pretrain"), attempt=1)
    run.curves(range(6))
    mirror_run(tracked_store, run.id, once=True)
    run.event("stage_started", "pretrain", key=key_of("pretrain"), attempt=2)
    run.curves(range(3, 9))
    run.finish("pretrain")
    run.end()
    mirror_run(tracked_store, run.id)
    pretrain = runs_of(tracked_store)["pretrain"]
    history = MlflowClient(tracking.tracking_uri(tracked_store)).get_metric_history(pretrain.info.run_id, "loss")
    assert sorted(m.step for m in history) == list(range(9))
    assert pretrain.data.tags["curatrain.attempt"] == "2"


def test_a_reused_stage_points_to_the_run_that_built_it(tracked_store: Path) -> None:
    first = HandwrittenRun(tracked_store)
    first.whole()
    mirror_run(tracked_store, first.id)
    built = runs_of(tracked_store)["curate"].info.run_id
    second = HandwrittenRun(tracked_store, "toy-20260102-000000-bbbb")
    second.start()
    second.finish("curate", action="reused")
    second.end()
    mirror_run(tracked_store, second.id)
    client = MlflowClient(tracking.tracking_uri(tracked_store))
    parent = read_state(second.path)
    child = client.get_run(parent.stages["curate"].run_id)
    assert child.data.tags["curatrain.action"] == "reused"
    assert child.data.tags["curatrain.source_run_id"] == built
    assert child.info.status == "FINISHED" and child.data.params["clusters"] == "5"


def test_the_registered_model_loads_and_is_made_once(tracked_store: Path, saved_model: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.whole(saved_model)
    mirror_run(tracked_store, run.id)
    record = tracking.read_registration(tracked_store, key_of("register"))
    assert record is not None and (record["name"], record["version"]) == ("toy-model", "1")
    again = HandwrittenRun(tracked_store, "toy-20260102-000000-bbbb")
    again.start()
    again.finish("register", action="reused", inputs=("pretrain",))
    again.end()
    mirror_run(tracked_store, again.id)
    uri = tracking.tracking_uri(tracked_store)
    client = MlflowClient(uri)
    (version,) = client.search_model_versions("name = 'toy-model'")
    assert version.tags == {"shards": "abc", "curatrain.key": key_of("register")}
    assert client.get_model_version_by_alias("toy-model", "candidate").version == 1
    model = client.get_logged_model(version.source.rpartition("/")[2])
    figures = {m.key: (m.value, m.dataset_name, m.dataset_digest) for m in model.metrics}
    assert figures["knn"] == (0.61, "held-out images", key_of("")[:32])
    assert figures["birds/knn"] == (0.5, "birds", key_of("birds")[:32])
    inputs = client.get_run(model.source_run_id).inputs.dataset_inputs
    tested = {i.dataset.name for i in inputs if i.tags[0].value == "evaluation"}
    assert tested == {"held-out images", "birds"}
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "toy-model", "version": 1}]
    code = "import mlflow; print(mlflow.pyfunc.load_model('models:/toy-model@candidate').predict([[4.0]])[0][0])"
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    loaded = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tracked_store)
    assert loaded.stdout.strip() == "2.0", loaded.stderr


def test_a_late_delivery_does_not_move_the_alias_back(tracked_store: Path, saved_model: Path) -> None:
    early, late = HandwrittenRun(tracked_store), HandwrittenRun(tracked_store, "toy-20260102-000000-bbbb")
    early.whole(saved_model)
    time.sleep(0.01)
    late.start()
    late.registration(saved_model)
    folder = late.artifact("register")
    other = folder.with_name(key_of("other"))
    folder.rename(other)
    late.event(
        "stage_finished", "register", action="run", type="register", key=key_of("other"), digest=key_of("other"),
        seconds=1, rows_in=None, rows_out=None, metrics={}, summary="", artifact=f"objects/register/{key_of('other')}",
    )  # fmt: skip
    late.end()
    mirror_run(tracked_store, late.id)
    early.registration(saved_model)
    mirror_run(tracked_store, early.id)
    client = MlflowClient(tracking.tracking_uri(tracked_store))
    assert len(client.search_model_versions("name = 'toy-model'")) == 2
    latest = client.get_model_version_by_alias("toy-model", "candidate")
    assert latest.tags["curatrain.key"] == key_of("other")


def test_failed_and_blocked_stages_say_why(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.start()
    run.event("stage_started", "curate", key=key_of("curate"), attempt=1)
    run.event("stage_failed", "curate", error="the pool is empty")
    run.event("stage_blocked", "pretrain", error="curate failed")
    run.end("failed")
    mirror_run(tracked_store, run.id)
    found = runs_of(tracked_store)
    assert [found[n].info.status for n in (run.id, "curate", "pretrain")] == ["FAILED", "FAILED", "KILLED"]
    assert "the pool is empty" in found["curate"].data.tags["mlflow.note.content"]
    assert "the pool is empty" in found[run.id].data.tags["mlflow.note.content"]


def test_a_dead_drivers_run_is_closed_as_killed(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store, pid=dead_pid())
    run.start()
    run.event("stage_started", "pretrain", key=key_of("pretrain"), attempt=1)
    run.curves(range(3))
    assert tracking.pending_runs(tracked_store) == [run.id]
    assert mirror_pending(tracked_store) is Outcome.DELIVERED
    assert {r.info.status for r in runs_of(tracked_store).values()} == {"KILLED"}
    assert tracking.pending_runs(tracked_store) == []


def test_a_run_that_a_living_driver_works_on_is_not_pending(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.start()
    assert tracking.pending_runs(tracked_store) == []
    mirror_run(tracked_store, run.id, once=True)
    assert runs_of(tracked_store)[run.id].info.status == "RUNNING"


def test_an_unreachable_server_leaves_the_run_to_a_later_delivery(
    tracked_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HandwrittenRun(tracked_store)
    run.whole()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    command = [sys.executable, "-m", "pipelines.tracking", str(tracked_store), run.id, "--patience", "1"]
    ended = subprocess.run(command, env=mirror_environment(), capture_output=True, text=True, timeout=60)
    assert ended.returncode == Outcome.UNREACHABLE, ended.stderr
    assert "waiting for MLflow" in ended.stderr
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as mirror:
        assert tracking.await_registration(tracked_store, key_of("register"), mirror, 30, run.id) is None
        assert time.monotonic() - began < 5
        mirror.kill()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.pending_runs(tracked_store) == [run.id]
    process = tracking.deliver_pending(tracked_store)
    assert process is not None and process.wait(60) == 0
    assert set(runs_of(tracked_store)) == {run.id, "curate", "pretrain"}
    assert tracking.deliver_pending(tracked_store) is None


def test_kill_9_of_the_mirror_at_any_moment_loses_and_doubles_nothing(tracked_store: Path, saved_model: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.whole(saved_model)
    for seconds in (1.6, 1.9, 2.2, 2.5):
        process = tracking.start_mirror(tracked_store, run.id)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    after = everything(tracked_store)
    assert set(runs_of(tracked_store)) == {run.id, "curate", "pretrain", "register"}
    pretrain = runs_of(tracked_store)["pretrain"]
    history = MlflowClient(tracking.tracking_uri(tracked_store)).get_metric_history(pretrain.info.run_id, "loss")
    assert sorted(m.step for m in history) == list(range(10))
    assert len(after["versions"]) == 1  # type: ignore[arg-type]
    assert {r.info.status for r in runs_of(tracked_store).values()} == {"FINISHED"}


def test_every_cut_of_the_delivery_is_mended(tracked_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th call of MLflow fails after it took effect, for every n until one delivery passes whole."""
    run = HandwrittenRun(tracked_store)
    run.whole()
    calls = {"left": 0}

    def cut(name: str) -> None:
        real = getattr(MlflowClient, name)

        def call(self: MlflowClient, *args: object, **kwargs: object) -> object:
            result = real(self, *args, **kwargs)
            calls["left"] -= 1
            if calls["left"] == 0:
                raise ConnectionError("cut")
            return result

        monkeypatch.setattr(MlflowClient, name, call)

    for name in ("create_run", "create_experiment", "log_batch", "log_inputs", "log_artifact", "set_terminated"):
        cut(name)
    attempts = 0
    outcome = Outcome.UNREACHABLE
    while outcome is Outcome.UNREACHABLE:
        attempts += 1
        calls["left"] = attempts
        outcome = mirror_run(tracked_store, run.id, once=True)
        assert attempts < 100
    calls["left"] = -1
    assert attempts > 3
    assert set(runs_of(tracked_store)) == {run.id, "curate", "pretrain"}
    assert {r.info.status for r in runs_of(tracked_store).values()} == {"FINISHED"}
    assert read_state(run.path).skipped == []
    before = everything(tracked_store)
    (run.path / "mirror.json").unlink()
    mirror_run(tracked_store, run.id)
    assert everything(tracked_store) == before


def test_what_mlflow_refuses_is_recorded_and_the_rest_is_delivered(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.start()
    run.event("stage_started", "curate", key=key_of("curate"), attempt=1)
    run.event("metrics", "curate", step="not a number", values={"loss": 1.0})
    run.finish("curate")
    run.end()
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    assert runs_of(tracked_store)["curate"].info.status == "FINISHED"
    (skipped,) = read_state(run.path).skipped
    assert "metrics of curate" in skipped
    assert "MLflow refused metrics of curate" in runs_of(tracked_store)[run.id].data.tags["mlflow.note.content"]


def test_two_mirrors_of_one_run_do_not_meet(tracked_store: Path) -> None:
    run = HandwrittenRun(tracked_store)
    run.start()
    process = tracking.start_mirror(tracked_store, run.id)
    try:
        wait_for(lambda: read_state(run.path) is not None, 60)
        assert mirror_run(tracked_store, run.id) is Outcome.HELD_BY_ANOTHER
        run.end()
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_two_mirrors_create_one_database_and_experiment_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = [HandwrittenRun(tmp_path, f"toy-2026010{n}-000000-aaaa") for n in (1, 2)]
    for run in runs:
        run.start()
        run.end()
    processes = [tracking.start_mirror(tmp_path, run.id) for run in runs]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert set(runs_of(tmp_path)) == {run.id for run in runs}
    experiments = {read_state(run.path).experiment_id for run in runs}
    assert len(experiments) == 1


def test_the_drivers_side_is_light() -> None:
    code = (
        "import sys, pipelines.tracking; print([m for m in ('mlflow', 'torch', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    assert tracking.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    command = tracking.ui_command(tmp_path, 5055)
    assert command[command.index("--host") + 1] == "127.0.0.1" and "5055" in command
    assert tracking.ui_environment(tmp_path)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry:1")
    assert tracking.registry_uri(tmp_path) == "http://registry:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:1/")
    assert tracking.run_url("http://there:1/", "3", "r") == (
        "http://there:1/#/experiments/3/runs/r?workflowType=machine_learning"
    )
    with pytest.raises(UsageError, match="http://there:1"):
        tracking.ui_command(tmp_path)


def test_long_parameters_fit_into_mlflows_limits() -> None:
    flat = flat_params({"a" * 300: "x" * 7000, "list": [1, {"b": 2}], "empty": {}, "none": None, "odd=name": True})
    assert all(len(key) <= 250 and len(value) <= 6000 for key, value in flat.items())
    assert (flat["list"], flat["empty"], flat["none"], flat["odd_name"]) == ('[1, {"b": 2}]', "{}", "null", "true")


@pytest.mark.slow
def test_a_server_that_stops_during_the_run_gets_everything_later(
    tracked_store: Path, monkeypatch: pytest.MonkeyPatch, saved_model: Path
) -> None:
    port = _free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    server = _serve(tracked_store, port)
    run = HandwrittenRun(tracked_store)
    mirror = None
    try:
        run.start()
        run.event("stage_started", "curate", key=key_of("curate"), attempt=1)
        mirror = tracking.start_mirror(tracked_store, run.id)
        wait_for(lambda: (state := read_state(run.path)) is not None and "curate" in state.stages, 90)
        _stop(server)
        run.finish("curate")
        run.event("stage_started", "pretrain", key=key_of("pretrain"), attempt=1)
        run.curves(range(20))
        time.sleep(3)
        assert mirror.poll() is None
        server = _serve(tracked_store, port)
        run.finish("pretrain", inputs=("curate",))
        run.registration(saved_model)
        run.finish("register", inputs=("pretrain",))
        run.end()
        assert mirror.wait(120) == 0
        found = runs_of(tracked_store)
        assert {r.info.status for r in found.values()} == {"FINISHED"}
        assert artifacts_of(tracked_store, found["curate"]) >= {"report/sheet.png"}
        record = tracking.read_registration(tracked_store, key_of("register"))
        assert record is not None and record["tracking_uri"].endswith(str(port))
        assert json.loads((run.path / "mirror.json").read_text())["skipped"] == []
    finally:
        _stop(server)
        if mirror is not None:
            mirror.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _serve(store: Path, port: int) -> subprocess.Popen[bytes]:
    uri = f"sqlite:///{store / 'mlflow' / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(store / "served")]
    env = {**tracking.ui_environment(store)}
    env.pop("MLFLOW_TRACKING_URI", None)
    with (store / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=store, start_new_session=True)
    wait_for(lambda: _answers(port), 120)
    return server


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.mark.parametrize(
    ("uri", "beside_the_store"),
    [("sqlite:////x.db", True), ("postgresql+pg8000://me@host/db", True), ("https://mlflow.example", False)],
)
def test_a_database_gets_its_artifacts_beside_the_store_and_a_server_decides_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, beside_the_store: bool
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    location = artifact_location(tmp_path, "toy")
    assert (location == (tmp_path / "mlflow" / "artifacts" / "toy").as_uri()) is beside_the_store
    assert (location is None) is not beside_the_store
