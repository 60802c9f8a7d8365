"""The promises of the run model, on small real stages run without Ray."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.api import Options, Pipeline
from pipelines.errors import SpecError, StoreError, UsageError
from stages import registry
from tests.pipelines import toy

LOCAL = Options(local=True, track=False)


@pytest.fixture(autouse=True)
def _toy_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in toy.TARGETS.items():
        monkeypatch.setitem(registry.BUILT_IN, name, target)
    registry.stage_targets.cache_clear()
    registry.stage_class.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "numbers"
    path.mkdir()
    for value in range(1, 9):
        (path / f"{value}.txt").write_text(str(value))
    return path


def states(run) -> dict[str, str]:
    return {name: stage.state for name, stage in run.state().stages.items()}


def digests(run) -> dict[str, str]:
    return {name: stage.digest for name, stage in run.state().stages.items()}


def actions(plan) -> dict[str, str]:
    return {name: step.action for name, step in plan.steps.items()}


def test_a_second_submit_reuses_everything(tmp_path: Path, folder: Path) -> None:
    pipeline = Pipeline(toy.document(folder))
    first = pipeline.submit(tmp_path / "store", LOCAL)
    second = Pipeline(toy.document(folder)).submit(tmp_path / "store", LOCAL)
    assert set(states(first).values()) == {"done"}
    assert set(states(second).values()) == {"reused"}
    assert digests(first) == digests(second)


def test_a_parameter_reruns_its_stage_and_what_depends_on_it(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "store"
    Pipeline(toy.document(folder)).submit(store, LOCAL)
    changed = Pipeline(toy.document(folder), ["square.power=3"])
    plan = changed.plan(store)
    assert actions(plan) == {"numbers": "reuse", "square": "run", "total": "maybe"}
    assert plan.steps["square"].why == "square.power: 2 -> 3"
    assert "square will be rebuilt" in plan.steps["total"].why
    assert states(changed.submit(store, LOCAL)) == {"numbers": "reused", "square": "done", "total": "done"}


def test_an_equal_output_stops_the_rerun_there(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "store"
    Pipeline(toy.document(folder)).submit(store, LOCAL)
    # squares of 1..8 stay below both moduli, so the content is the same under another key
    again = Pipeline(toy.document(folder, square={"modulus": 5000})).submit(store, LOCAL)
    assert states(again) == {"numbers": "reused", "square": "done", "total": "reused"}


def test_an_execution_parameter_changes_nothing(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "store"
    Pipeline(toy.document(folder)).submit(store, LOCAL)
    again = Pipeline(toy.document(folder, square={"pause": 0.001})).submit(store, LOCAL)
    assert set(states(again).values()) == {"reused"}


def test_a_grown_pool_computes_only_what_is_new(tmp_path: Path, folder: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    Pipeline(toy.document(folder, square={"log": str(log)})).submit(store, LOCAL)
    (folder / "9.txt").write_text("9")
    log.unlink()
    grown = Pipeline(toy.document(folder, square={"log": str(log)})).submit(store, LOCAL)
    scratch = Pipeline(toy.document(folder)).submit(tmp_path / "scratch", LOCAL)
    assert log.read_text().split() == ["9"]
    assert digests(grown) == digests(scratch)


def test_a_failed_stage_fails_alone_and_the_next_run_starts_there(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "store"
    spec = toy.document(folder, total={"fail": True}, other={"uses": "total", "inputs": {"squares": "square"}})
    run = Pipeline(spec).submit(store, LOCAL)
    assert run.status == "failed"
    assert states(run) == {"numbers": "done", "square": "done", "total": "failed", "other": "done"}
    assert run.state().stages["total"].error == "told to fail: set total.fail=false"
    mended = Pipeline(spec, ["total.fail=false"]).submit(store, LOCAL)
    assert mended.status == "done"
    assert states(mended) == {"numbers": "reused", "square": "reused", "total": "reused", "other": "reused"}


def test_what_reads_from_a_failed_stage_is_blocked(tmp_path: Path, folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    run = Pipeline(toy.document(folder)).submit(tmp_path / "store", LOCAL)
    assert states(run) == {"numbers": "failed", "square": "blocked", "total": "blocked"}
    assert "the folder is empty" in run.state().stages["numbers"].error


def test_a_missing_input_is_planned_as_blocked_and_starts_nothing(tmp_path: Path) -> None:
    pipeline = Pipeline(toy.document(tmp_path / "nowhere"))
    plan = pipeline.plan(tmp_path / "store")
    assert actions(plan) == {"numbers": "blocked", "square": "blocked", "total": "blocked"}
    assert "make it, or set numbers.folder" in plan.steps["numbers"].why
    assert not (tmp_path / "store").exists()


def test_a_forced_stage_runs_again_and_an_equal_result_goes_no_further(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "store"
    Pipeline(toy.document(folder)).submit(store, LOCAL)
    options = Options(local=True, track=False, force=("square",))
    plan = Pipeline(toy.document(folder)).plan(store, options)
    assert plan.steps["square"].why == "asked to run again"
    run = Pipeline(toy.document(folder)).submit(store, options)
    assert states(run) == {"numbers": "reused", "square": "done", "total": "reused"}


def test_a_declared_harmless_code_change_keeps_the_recipe_and_is_recorded(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import facts

    store = tmp_path / "store"
    Pipeline(toy.document(folder)).submit(store, LOCAL)
    monkeypatch.setattr(facts, "code_fingerprint", lambda modules: "another")
    plain = Pipeline(toy.document(folder)).plan(store)
    assert plain.steps["square"].why == "the code of square has changed; numbers will be rebuilt"
    stages = ("numbers", "square", "total")
    waived = Options(local=True, track=False, assume_same_code=stages)
    assert set(states(Pipeline(toy.document(folder)).submit(store, waived)).values()) == {"reused"}
    changed = Pipeline(toy.document(folder), ["square.power=3"]).submit(store, waived)
    assert changed.artifact("square").manifest["assumed_same_code"] == "another"


def test_a_damaged_artifact_is_rebuilt_and_the_plan_says_so(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "store"
    first = Pipeline(toy.document(folder)).submit(store, LOCAL)
    (first.artifact("square").path / "parts" / "3").unlink()
    plan = Pipeline(toy.document(folder)).plan(store)
    assert plan.steps["square"].why == "output damaged: parts/3 is missing"
    again = Pipeline(toy.document(folder)).submit(store, LOCAL)
    assert states(again) == {"numbers": "reused", "square": "done", "total": "reused"}
    assert digests(again) == digests(first)


def test_a_cancelled_run_keeps_its_parts(tmp_path: Path, folder: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    spec = toy.document(folder, square={"pause": 0.2, "log": str(log)})

    def cancel_once_begun(record):
        def tick() -> None:
            if log.exists():
                record.cancel_flag.touch()

        return tick

    run = Pipeline(spec).submit(store, LOCAL, watch=cancel_once_begun)
    assert run.status == "cancelled"
    assert states(run) == {"numbers": "done", "square": "cancelled", "total": "blocked"}
    begun = log.read_text().split()
    assert 0 < len(begun) < 8
    assert actions(Pipeline(spec).plan(store))["square"] == "resume"
    assert Pipeline(spec).submit(store, LOCAL).status == "done"
    assert sorted(log.read_text().split()) == [str(n) for n in range(1, 9)]


def start(store: Path, spec: dict) -> subprocess.Popen:
    if not (store.parent / "plugin").exists():
        toy.install(store.parent / "plugin")
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(store.parent / "plugin")])}
    command = [sys.executable, "-m", "tests.pipelines.toy", "local", str(store), json.dumps(spec)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_kill_at_random_moments_loses_at_most_the_part_in_flight(tmp_path: Path, folder: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    spec = toy.document(folder, square={"pause": 0.03, "log": str(log)})
    whole = Pipeline(toy.document(folder)).submit(tmp_path / "whole", LOCAL)
    dice, kills = random.Random(7), 0
    for _ in range(5):
        process = start(store, spec)
        deadline = time.monotonic() + 20
        began = len(log.read_text().split()) if log.exists() else 0
        more = dice.randint(1, 2)
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and len(log.read_text().split()) >= began + more:
                break
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    process = start(store, spec)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert {name: digest for name, (_, digest) in json.loads(out).items()} == digests(whole)
    assert kills >= 2
    assert len(log.read_text().split()) <= 8 + kills


def test_two_submits_at_once_compute_each_part_once(tmp_path: Path, folder: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    spec = toy.document(folder, square={"pause": 0.05, "log": str(log)})
    both = [start(store, spec), start(store, spec)]
    outs = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert outs[0]["total"][1] == outs[1]["total"][1]
    assert sorted(log.read_text().split()) == [str(n) for n in range(1, 9)]
    assert len(list((store / "objects" / "square").iterdir())) == 1


def test_a_crashed_run_is_called_crashed(tmp_path: Path, folder: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    process = start(store, toy.document(folder, square={"pause": 1.0, "log": str(log)}))
    while not log.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    from pipelines.api import open_run

    assert open_run("latest", store).status == "crashed"


def test_every_mistake_of_a_spec_is_told_at_once() -> None:
    document = {
        "name": "toy",
        "stagez": {},
        "stages": {
            "numbers": {"folders": "x"},
            "square": {"power": "many", "inputs": {"numbers": "nmbers"}},
            "total": {"offset": 1.5, "inputs": {"square": "square"}},
            "odd": {"uses": "totl"},
        },
    }
    with pytest.raises(SpecError) as caught:
        Pipeline(document, ["squares.power=2"])
    text = str(caught.value)
    for expected in (
        "stagez: unknown key (did you mean 'stages'?)",
        "numbers.folders: unknown parameter (did you mean 'folder'?)",
        "square.power: ",
        "got 'many'",
        "square.inputs.numbers: there is no stage 'nmbers' (did you mean 'numbers'?)",
        "total.inputs.square: unknown input (did you mean 'squares'?)",
        "total.offset: ",
        "odd.uses: there is no stage type 'totl' (did you mean 'total'?)",
        "--set squares.power: there is no stage 'squares' (did you mean 'square'?)",
    ):
        assert expected in text, text
    assert caught.value.exit_code == 2


def test_a_mistake_between_parameters_names_its_stage() -> None:
    document = {"name": "mine", "stages": {"train": {"uses": "pretrain", "steps": 5, "epochs": 5}}}
    with pytest.raises(SpecError, match=r"- train: give steps or epochs, not both"):
        Pipeline(document)


def test_a_cycle_is_named() -> None:
    document = {
        "name": "loop",
        "stages": {
            "a": {"uses": "copy", "inputs": {"squares": "b"}},
            "b": {"uses": "copy", "inputs": {"squares": "a"}},
        },
    }
    registry.BUILT_IN["copy"] = "tests.pipelines.test_run_model:Copy"
    registry.stage_targets.cache_clear()
    try:
        with pytest.raises(SpecError, match=r"a cycle, each waits for the next: (a -> b -> a|b -> a -> b)"):
            Pipeline(document)
    finally:
        del registry.BUILT_IN["copy"]


class Copy(toy.Total):
    """Reads and makes the same kind, so that a cycle can be written down."""

    output = "toy_squares"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_cannot_be_written_is_told(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="choose another with --store"):
        Pipeline(toy.document(folder)).submit(tmp_path / "store" / "inner", LOCAL)


def test_a_store_that_is_a_file_is_told(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="choose another with --store"):
        Pipeline(toy.document(folder)).submit(tmp_path / "store", LOCAL)


def test_unknown_targets_are_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'square'"):
        Pipeline(toy.document(folder)).submit(tmp_path / "store", LOCAL, targets=["sqare"])
