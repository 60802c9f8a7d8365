"""A training that began on two workers goes on with one when the cluster loses a node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.losing_node import STEPS, TOLD

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(960)
def test_a_training_goes_on_with_the_workers_that_are_left(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.losing_node", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads((tmp_path / TOLD).read_text())
    first, *_, last = told["facts"]
    assert (first["ranks"], first["resumed_at"]) == (2, 0)
    assert last["ranks"] == 1
    assert 0 < last["resumed_at"] < STEPS
    lost, alone = (told["histories"][name] for name in ("lost", "alone"))
    assert [line["step"] for line in lost] == [line["step"] for line in alone]
    assert [line["loss"] for line in lost] == pytest.approx([line["loss"] for line in alone], rel=1e-3)
