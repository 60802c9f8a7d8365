"""Steps on a real Ray cluster: the same digests, and a worker or driver that is killed loses one part at most."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipelines import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy.install(tmp_path / "plugin")
    path = tmp_path / "numbers"
    path.mkdir()
    for value in range(1, 7):
        (path / f"{value}.txt").write_text(str(value))
    return path


def start(tmp_path: Path, executor: str, store: str, spec: dict) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "plugin")])}
    command = [sys.executable, "-m", "tests.pipelines.toy", executor, str(tmp_path / store), json.dumps(spec)]
    return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> dict[str, list[str]]:
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return json.loads(out)


def test_a_killed_worker_process_is_replaced_and_goes_on(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "log"
    spec = toy.document(folder, square={"log": str(log), "kill_at": 4})
    ray = finish(start(tmp_path, "ray", "store", spec))
    local = finish(start(tmp_path, "local", "whole", toy.document(folder)))
    assert (tmp_path / "log.killed").exists()
    assert ray == local
    assert log.read_text().split() == ["1", "2", "3", "4", "5", "6"]


def test_a_killed_driver_leaves_its_parts_to_the_next_run(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "log"
    spec = toy.document(folder, square={"log": str(log), "pause": 0.7})
    process = start(tmp_path, "ray", "store", spec)
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = finish(start(tmp_path, "local", "store", spec))
    whole = finish(start(tmp_path, "local", "whole", toy.document(folder)))
    assert {name: digest for name, (_, digest) in again.items()} == {n: digest for n, (_, digest) in whole.items()}
    assert len(log.read_text().split()) <= 7
