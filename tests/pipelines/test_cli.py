"""The command line as a person uses it: messages, exit codes, tables and JSON."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.errors import UsageError
from tests.pipelines.handwritten_run import HandwrittenRun

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from stages import registry
from tests.pipelines import toy
registry.BUILT_IN.update(toy.TARGETS)
from pipelines.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "numbers"
    path.mkdir()
    for value in (1, 2, 3):
        (path / f"{value}.txt").write_text(str(value))
    return path


@pytest.fixture
def spec(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "toy.yaml"
    stages = {"numbers": {"folder": str(folder)}, "square": None, "total": None}
    path.write_text(yaml.safe_dump({"name": "toy", "stages": stages}))
    return path


def curatrain(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "CURATRAIN_STORE": str(tmp_path / "store"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)


def submit(tmp_path: Path, spec: Path, *more: str) -> subprocess.CompletedProcess:
    return curatrain(tmp_path, "submit", str(spec), "--local", "--no-track", *more)


def test_submit_plan_status_show_runs(tmp_path: Path, spec: Path) -> None:
    planned = curatrain(tmp_path, "plan", str(spec), "--json")
    steps = json.loads(planned.stdout)["steps"]
    assert [s["action"] for s in steps] == ["run", "run", "run"]
    assert [s["remarks"] for s in steps] == [["one number a file in numbers"], [], []]
    assert "one number a file in numbers" in curatrain(tmp_path, "plan", str(spec)).stdout
    done = submit(tmp_path, spec)
    assert done.returncode == 0, done.stderr
    assert "summed up" in done.stdout
    again = json.loads(submit(tmp_path, spec, "--json").stdout)
    assert {s["state"] for s in again["stages"]} == {"reused"}
    assert json.loads(curatrain(tmp_path, "status", "--json").stdout)["status"] == "done"
    listed = json.loads(curatrain(tmp_path, "runs", "--json").stdout)
    assert [(r["ran"], r["reused"]) for r in listed] == [(0, 3), (3, 0)]
    key = again["stages"][1]["key"]
    shown = json.loads(curatrain(tmp_path, "show", f"square/{key[:8]}", "--verify", "--json").stdout)
    assert shown["recipe"]["params"] == {"modulus": 1000, "power": 2}
    assert "nothing that it depends on has changed" in curatrain(tmp_path, "show", "latest").stdout


def test_rerun_says_beforehand_what_it_does_and_does_it(tmp_path: Path, spec: Path) -> None:
    submit(tmp_path, spec)
    arguments = ("rerun", "latest", "--stage", "square", "--set", "square.power=3")
    planned = json.loads(curatrain(tmp_path, *arguments, "--plan", "--json").stdout)
    assert [(s["action"], s["causes"]) for s in planned["steps"]] == [
        ("reuse", ["nothing that it depends on has changed"]),
        ("run", ["square.power: 2 -> 3"]),
        ("maybe", ["square will be rebuilt"]),
    ]
    ran = json.loads(curatrain(tmp_path, *arguments, "--local", "--no-track", "--json").stdout)
    assert [s["state"] for s in ran["stages"]] == ["reused", "done", "done"]
    assert ran["parent"].startswith("toy-")


def test_a_failed_run_exits_with_1_and_resumes(tmp_path: Path, spec: Path) -> None:
    failed = submit(tmp_path, spec, "--set", "total.fail=true")
    assert failed.returncode == 1
    assert "told to fail" in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr
    resumed = curatrain(tmp_path, "resume", "--local", "--no-track", "--json")
    assert [s["state"] for s in json.loads(resumed.stdout)["stages"]] == ["reused", "reused", "failed"]


def test_mistakes_exit_with_2_and_start_nothing(tmp_path: Path, spec: Path) -> None:
    wrong = submit(tmp_path, spec, "--set", "square.powr=3", "--set", "total.offset=x")
    assert wrong.returncode == 2
    assert "square.powr: unknown parameter (did you mean 'power'?)" in wrong.stderr
    assert "total.offset" in wrong.stderr
    assert not (tmp_path / "store").exists()
    for arguments in (("submit", "quikstart"), ("status", "nothing"), ("rerun", "x", "--stage", "y")):
        told = curatrain(tmp_path, *arguments)
        assert told.returncode == 2, told.stderr
        assert "Traceback" not in told.stderr


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    run = HandwrittenRun(tmp_path)
    run.whole()
    place = str(tmp_path / "no" / "folder.html")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for arguments, message in (
            (["ui", "--port", port], f"port {port} of 127.0.0.1 cannot be had"),
            (["report", run.id, "--output", place], f"--output {place} cannot be written"),
            (["compare", run.id, run.id], "has 0 stages that make a metrics"),
            (["compare", run.id, run.id, "--views", "paper"], "go with a SPEC"),
        ):
            told = CliRunner().invoke(app, [*arguments, "--store", str(tmp_path)])
            assert isinstance(told.exception, UsageError) and message in str(told.exception), told.output


def test_a_blocked_run_exits_with_3(tmp_path: Path, spec: Path) -> None:
    blocked = submit(tmp_path, spec, "--set", "numbers.folder=nowhere")
    assert blocked.returncode == 3
    assert "make it, or set numbers.folder" in blocked.stdout


def test_gc_is_dry_by_default(tmp_path: Path, spec: Path) -> None:
    submit(tmp_path, spec)
    submit(tmp_path, spec, "--set", "square.power=3")
    dry = curatrain(tmp_path, "gc", "--keep-runs", "1", "--json")
    assert {(g["kind"], g["type"]) for g in json.loads(dry.stdout)} == {("object", "square"), ("object", "total")}
    assert "nothing was deleted" in dry.stderr
    assert len(list((tmp_path / "store" / "objects" / "square").iterdir())) == 2
    curatrain(tmp_path, "gc", "--keep-runs", "1", "--delete")
    assert len(list((tmp_path / "store" / "objects" / "square").iterdir())) == 1


def test_a_package_that_shadows_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("")
    code = f"import sys; sys.path.append({str(ROOT)!r}); from pipelines.cli import _check_packages; _check_packages()"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "the package 'stages' that Python finds is" in told.stderr
