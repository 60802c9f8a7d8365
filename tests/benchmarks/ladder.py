"""What every objective learns in the same CPU-seconds: `python -m tests.benchmarks.ladder run`, then `... table`.

Each run is an objective by its small recipe, a backbone and a seed, trained with one thread for the backbone's budget
on the pictures of `ladder_data`; then kNN and a ridge probe on pictures that were held out. Beside them stand the
backbones untrained, and raw pixels. Runs are kept one by one: what stands by the same recipe is not run again, so an
interrupted ladder goes on where it was. `table` prints the means over seeds, and keeps them where `curatrain
objectives --table` finds them. A budget is made a number of steps by the first run of a recipe, and its other seeds
take as many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.ladder_run import BACKBONES, PIXELS, UNTRAINED, Rung, recipe_digest
from tests.benchmarks.ladder_table import keep_table, printed, table_rows
from tests.benchmarks.peers import RESULTS, ROOT, keep_result
from training.objectives import catalogue

COMMAND = "python -m tests.benchmarks.ladder run"
BUDGETS = {"vit": 60, "resnet18": 240}
"""CPU-seconds of training by backbone: a ResNet's random features are harder to beat, and its steps take longer."""


def kept() -> dict[str, dict[str, Any]]:
    """The entries of all runs that were kept, by `Rung.key`."""
    path = RESULTS / "ladder.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def rungs(
    objectives: Iterable[str], backbones: Sequence[str], seeds: Iterable[int], budgets: Mapping[str, int]
) -> list[Rung]:
    """All runs that these ask for and that can be, seed by seed."""
    found = []
    for seed in seeds:
        for name in objectives:
            if name == PIXELS:
                found += [Rung(name, "", 0, 0)] if seed == 0 else []
                continue
            needs = "any" if name == UNTRAINED else catalogue.describe(name)["backbone"]
            found += [
                Rung(name, b, seed, 0 if name == UNTRAINED else budgets[b]) for b in backbones if needs in ("any", b)
            ]
    return found


def run(wanted: Sequence[Rung], again: bool) -> int:
    """Run what is not kept; returns how many failed."""
    failed = 0
    for number, rung in enumerate(wanted, 1):
        recipe, entries = recipe_digest(rung), kept()
        before = entries.get(rung.key)
        if before is not None and before["recipe"] == recipe and not again:
            continue
        steps = max((e.get("steps", 0) for e in entries.values() if e["recipe"] == recipe and not again), default=0)
        print(f"{number}/{len(wanted)} {rung.key}", end=" ", flush=True)
        entry = _measured(rung, steps)
        if entry is None:
            failed += 1
            continue
        entry |= {"recipe": recipe, "at": datetime.now().astimezone().isoformat(timespec="seconds")}
        keep_result("ladder", COMMAND, dict(sorted({**kept(), rung.key: entry}.items())))
        took = f", {entry['steps']} steps in {entry['cpu_seconds']} CPU-s" if "steps" in entry else ""
        print(f"kNN {entry['knn']:.3f}, linear {entry['linear']:.3f}{took}", flush=True)
    return failed


def _measured(rung: Rung, steps: int) -> dict[str, Any] | None:
    """The entry of a run in a process of its own; None, with what it said, where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entry.json"
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.ladder_run",
            json.dumps(asdict(rung)),
            str(steps),
            str(path),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            return None
        return dict(json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--objectives", default=",".join([PIXELS, UNTRAINED, *catalogue.names()]))
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", type=int, help=f"CPU-seconds of training (default {BUDGETS})")
    parser.add_argument("--again", action="store_true", help="also run what stands by the same recipe")
    given = parser.parse_args()
    budgets = dict.fromkeys(BACKBONES, given.budget) if given.budget else BUDGETS
    failed = 0
    if given.what == "run":
        seeds = [int(seed) for seed in given.seeds.split(",")]
        wanted = rungs(given.objectives.split(","), given.backbones.split(","), seeds, budgets)
        failed = run(wanted, given.again)
    rows = table_rows(kept().values(), budgets)
    print(printed(rows))
    keep_table(rows, budgets)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
