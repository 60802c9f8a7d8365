"""kill -9 at any moment of a save leaves whole checkpoints only, and none that was committed is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

KILLS = 15

CODE = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from training.checkpoints import Checkpoints, TrainingState, newest_intact
from training.optimisers import make_optimiser

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)

def state():
    network = nn.Sequential(nn.Linear(700, 700), nn.Linear(700, 700))
    return TrainingState(network, make_optimiser("adamw", network, lr=0.1, weight_decay=0.1))

def work(pipe):
    one = state()
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(one)
        step = restored.step if restored else 0
        while True:
            step += 1
            with torch.no_grad():
                for tensor in one.collect().values():
                    tensor.fill_(step)
            checkpoints.save(step, one)
            os.write(pipe, (step - 1).to_bytes(4, "big"))  # the save before is committed

dice, found, committed = random.Random(7), [], 0
for _ in range(kills):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        work(writing)
    os.close(writing)
    os.read(reading, 4)
    time.sleep(dice.uniform(0, 0.25))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rest = b""
    while part := os.read(reading, 65536):
        rest += part
    os.close(reading)
    committed = max(committed, int.from_bytes(rest[-4:], "big"))
    staged = len(list(folder.glob(".step-*")))
    path, skipped = newest_intact(folder)
    with Checkpoints(folder.parent / "copy") as checkpoints:
        checkpoints.folder = folder
        one = state()
        restored = checkpoints.restore(one) if path else None
    step = restored.step if restored else 0
    whole = all(bool((tensor == step).all()) for tensor in one.collect().values()) if step else True
    found.append({"committed": committed, "step": step, "skipped": skipped, "whole": whole, "staged": staged})
print(json.dumps(found))
"""


def test_no_kill_tears_or_loses_a_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path / "checkpoints"), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == KILLS
    for kill in found:
        assert kill["skipped"] == [] and kill["whole"]
        assert kill["step"] >= kill["committed"]
    assert sum(kill["staged"] for kill in found) >= KILLS // 3, "kills must fall into saves, too"
    assert found[-1]["step"] >= KILLS // 5
