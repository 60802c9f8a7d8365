"""What looking at the features during training costs: its share of the time of the quickstart's training.

Run: python -m tests.benchmarks.online_share [--steps 40] [--looks 4]

One rank, one thread, in this process. The share is of the wall clock, of looks and steps that take turns, so that a
busy machine slows both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.benchmarks.peers import keep_result
from tests.training.samples import write_sample_shards
from training.history import HISTORY, read_history
from training.loop import pretrain
from training.objectives import catalogue
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe

ROWS = 1024
EVERY = (25, 50, 100)


def measure(folder: Path, steps: int, looks: int) -> dict[str, float]:
    """Seconds of a step and of a look, and the share of looks for each of `EVERY`."""
    views = ViewRecipe(2, 0.2, 1.0, 0.5, 0.8, 0.4, 0.4, 0.4, 0.1, 0.2, 0.0)
    plan = PretrainingPlan(
        shards=str(write_sample_shards(folder / "shards", ROWS)),
        work=str(folder / "work"),
        objective=catalogue.resolve("simclr"),
        backbone={"name": "resnet18", "kwargs": {"channels": [32, 64, 128, 256]}},
        image_size=32,
        canvas_size=64,
        views=views.to_dict(),
        steps=steps,
        batch=128,
        rows=ROWS,
        threads=1,
        checkpoint_every=steps,
        evaluate_every=max(1, steps // looks),
    )
    (folder / "work").mkdir()
    began = time.perf_counter()
    pretrain(plan.to_dict())
    whole = time.perf_counter() - began
    seconds = [line["look_seconds"] for line in read_history(folder / "work" / HISTORY) if "look_seconds" in line]
    look, step = sum(seconds) / len(seconds), (whole - sum(seconds)) / steps
    shares = {f"share_every_{every}": round(look / (look + every * step), 4) for every in EVERY}
    return {"look_seconds": round(look, 3), "step_seconds": round(step, 3), "looks": float(len(seconds)), **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--looks", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.steps, arguments.looks)
    print(figures)
    keep_result("online_share", "python -m tests.benchmarks.online_share", figures)


if __name__ == "__main__":
    main()
