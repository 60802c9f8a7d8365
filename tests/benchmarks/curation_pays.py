"""Does curation pay? Selections of one faulty pool, trained alike: `python -m tests.benchmarks.curation_pays`.

The pool (see `curation_pays_pool`) is long-tailed and full of copies. Every selection has the same number of images,
trains the same small network for the same steps with three seeds, and is tested on the same pictures: a balanced set
that the pool was guarded against, and what is held out of the pool itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from pipelines.api import Options, Pipeline, Run
from pipelines.compare import comparison_spec
from pipelines.compare_axes import parse_selections
from tests.benchmarks.curation_pays_pool import COPIES, IMBALANCE, VIRAL, write_pool
from tests.benchmarks.peers import ENVIRONMENTS, keep_result

SELECTIONS = "raw,random,balanced,retrieved,semdedup,metaclip"
BUDGET, SEEDS, STEPS, BATCH = 800, 3, 120, 64
MEASURES = (
    "test/knn_trained",
    "test/linear_trained",
    "knn_trained_balanced",
    "linear_trained_balanced",
    "rankme_trained",
)
BASELINES = [
    f"{of}{probe}_{who}" for of in ("test/", "") for probe in ("knn", "linear") for who in ("untrained", "pixels")
]
DEDUP = {
    "radius": 6,
    "threshold": 0.96,
    "confirm": 0.92,
    "leak_threshold": 0.95,
    "leak_radius": 6,
    "leak_confirm": 0.92,
}
"""Set for these pictures: of the pairs of other pictures 1 in 100,000 is above 0.96."""


def specification(folder: Path, steps: int) -> dict[str, Any]:
    """The spec that all selections share."""
    return {
        "name": "curation-pays",
        "seed_sets": {"wanted": {"urls": str(folder / "seeds.parquet")}},
        "evaluation_sets": {"test": {"urls": str(folder / "test.parquet")}},
        "stages": {
            "crawl": {"sources": [{"urls": str(folder / "pool.parquet"), "name": "pool"}]},
            "ingest": {},
            "embed": {"model": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0", "size": 64},
            "dedup": DEDUP,
            "curate": {"clusters": 60, "levels": 2, "holdout": 0.15},
            "shard": {},
            "pretrain": {
                "objective": {"name": "simclr", "temperature": 0.2},
                "backbone": "resnet18",
                "backbone_options": {"channels": [32, 64, 128, 256]},
                "image_size": 32,
                "views": {
                    "scale_min": 0.3,
                    "brightness": 0.4,
                    "contrast": 0.4,
                    "saturation": 0.0,
                    "hue": 0.0,
                    "blur": 0.0,
                },
                "steps": steps,
                "batch": BATCH,
            },
            "evaluate": {"protocol": "curatrain-v1"},
        },
    }


def run(folder: Path, selections: str, steps: int, seeds: int, targets: list[str]) -> tuple[Run, float]:
    """Submit the comparison; returns the run and the CPU-seconds of this process."""
    spec = comparison_spec(
        specification(folder / "pool", steps),
        parse_selections(selections),
        seeds=seeds,
        overrides=[f"curate.target={BUDGET}", f"compare.measures={json.dumps(MEASURES)}"],
    )
    began = time.process_time()
    submitted = Pipeline(spec.document()).submit(folder / "store", Options(local=True, track=False), targets)
    return submitted, time.process_time() - began


def figures(submitted: Run) -> dict[str, Any]:
    """What is kept: the comparison, and what each selection is made of."""
    state = submitted.state()
    record = json.loads((submitted.artifact("compare").path / "comparison.json").read_text())
    selections = {
        stage.name.removeprefix("curate-"): {
            name: round(value, 4)
            for name, value in stage.metrics.items()
            if name.startswith(("class_", "cluster_", "train", "draws", "holdout"))
        }
        for stage in state.stages.values()
        if stage.type == "curate"
    }
    duplicates = next(stage.metrics for stage in state.stages.values() if stage.type == "curate")
    return {
        "pool": {"imbalance": IMBALANCE, "copied": VIRAL, "copies": COPIES, **state.stages["dedup"].metrics},
        "duplicates": {name: value for name, value in duplicates.items() if name.startswith("duplicates_")},
        "budget": BUDGET,
        "steps": STEPS,
        "batch": BATCH,
        "selections": selections,
        "baselines": {name: value for name, value in record["cells"][0]["metrics"].items() if name in BASELINES},
        "rows": record["rows"],
        "remarks": record["remarks"],
        "seconds": {stage.name: round(stage.seconds, 1) for stage in state.stages.values()},
    }


def main() -> None:
    """Make the pool, run the comparison, keep its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ENVIRONMENTS / "curation-pays", help="for pool and store")
    parser.add_argument("--selections", default=SELECTIONS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--until", action="append", default=[], help="stop after this stage, and keep nothing")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if not (given.folder / "pool" / "test.parquet").exists():
        shutil.rmtree(given.folder, ignore_errors=True)
        write_pool(given.folder / "pool")
    submitted, seconds = run(given.folder, given.selections, given.steps, given.seeds, given.until)
    for stage in submitted.state().stages.values():
        print(f"{stage.name:28} {stage.state:8} {stage.seconds:7.1f} s  {stage.error or stage.summary}")
    if submitted.status == "done" and not given.until:
        report = submitted.artifact("compare").path / "report" / "comparison.md"
        print(report.read_text())
        command = f"python -m tests.benchmarks.curation_pays --selections {given.selections}"
        print(keep_result("curation_pays", command, {**figures(submitted), "cpu_seconds": round(seconds)}))


if __name__ == "__main__":
    main()
