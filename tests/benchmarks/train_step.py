"""Our training loop against lightly's and stable-pretraining's: CPU-seconds of a step, with and without loading.

Run: python -m tests.benchmarks.train_step [--objectives simclr byol mae] [--parts step loading ladder] [--rounds 8]
[--models small middle]

Every loop is a process with one compute thread and gets the same model, heads, batch and optimiser. They take turns
of a few steps, and figures are medians over the rounds of CPU-seconds; ratios are medians of each round's ratio.
"step": the same tensors, in memory. "loading": from pictures, 2048 JPEG files of 256 x 256 pixels, to trained steps,
each with its own decoding and augmentation (two loading workers, or two decoding threads). "ladder": images per
CPU-second of ours, one part more at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import RESULTS, keep_result, peer_python
from tests.benchmarks.train_loops.pictures import SIDE, write_pictures
from tests.benchmarks.train_loops.turns import Contender, compare
from tests.benchmarks.train_loops.workload import Workload

PEERS = ["torch==2.14.1", "torchvision==0.29.1", "lightly==1.6.0", "stable-pretraining==0.1.8"]
PICTURES = 2048
BATCH = 128

_RESNET = ("resnet18", {"channels": [16, 32, 64, 128]}, 10)
_VIT = ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4}, 5)
SMALL = {"simclr": _RESNET, "byol": _RESNET, "mae": _VIT}
MIDDLE = {
    "simclr": ("resnet18", {}, 1),
    "byol": ("resnet18", {}, 1),
    "mae": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}, 1),
}
LOADING_SIDE = 64
PARTS = ("bare", "loop", "augmentation", "decode", "shards")


def _our(work: Workload, part: str) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.train_loops.ours", work.to_json(), part]


def _theirs(work: Workload, python: Path) -> dict[str, list[str]]:
    modules = {"lightly": "lightly_loop", "stable-pretraining": "spt_loop"}
    return {
        name: [str(python), "-m", f"tests.benchmarks.train_loops.{module}", work.to_json()]
        for name, module in modules.items()
    }


def _median_ratio(one: Contender, other: Contender) -> float:
    ratios = [a / b for a, b in zip(one.cpu_seconds, other.cpu_seconds, strict=True)]
    return round(statistics.median(ratios), 3)


def _figures(found: dict[str, Contender], ours: str, batch: int) -> dict[str, Any]:
    """Milliseconds and speeds of each loop, and ours against the better peer."""
    seconds = {name: statistics.median(each.cpu_seconds) for name, each in found.items()}
    peers = [name for name in found if name in ("lightly", "stable-pretraining")]
    figures: dict[str, Any] = {
        "cpu_ms_per_step": {name: round(value * 1000, 1) for name, value in seconds.items()},
        "images_per_cpu_second": {name: round(batch / value, 1) for name, value in seconds.items()},
    }
    if peers:
        better = min(peers, key=seconds.__getitem__)
        figures["better_peer"] = better
        figures["ours_to_better_peer"] = _median_ratio(found[ours], found[better])
    return figures


def step(work: Workload, python: Path, rounds: int, logs: Path) -> dict[str, Any]:
    """The same tensors through every loop."""
    commands = {"bare": _our(work, "bare"), "ours": _our(work, "loop"), **_theirs(work, python)}
    found = compare(commands, rounds, logs)
    return {**_figures(found, "ours", BATCH), "loop_to_bare": _median_ratio(found["ours"], found["bare"])}


def loading(work: Workload, python: Path, rounds: int, logs: Path) -> dict[str, Any]:
    """From files, or from shards, to trained steps. "ours, whole canvas" keeps every pixel of the pictures."""
    whole = replace(work, canvas=SIDE)
    commands = {"ours": _our(work, "shards"), "ours, whole canvas": _our(whole, "shards"), **_theirs(work, python)}
    found = compare(commands, rounds, logs)
    figures = _figures(found, "ours", BATCH)
    better = found[figures["better_peer"]]
    return {**figures, "whole_canvas_to_better_peer": _median_ratio(found["ours, whole canvas"], better)}


def ladder(work: Workload, rounds: int, logs: Path) -> dict[str, Any]:
    """Ours, one part more at a time."""
    return _figures(compare({part: _our(work, part) for part in PARTS}, rounds, logs), "shards", BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=["simclr", "byol", "mae"], choices=sorted(SMALL))
    parser.add_argument("--parts", nargs="+", default=["step", "loading", "ladder"])
    parser.add_argument("--models", nargs="+", default=["small", "middle"], help="sizes that steps are taken with")
    parser.add_argument("--rounds", type=int, default=8)
    wanted = parser.parse_args()
    python = peer_python("training-loops", PEERS)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        files, shards = write_pictures(Path(folder), PICTURES)
        for objective in wanted.objectives:
            for label, models in (("small", SMALL), ("middle", MIDDLE)):
                backbone, options, steps = models[objective]
                tensors = Workload(objective, backbone, options, 32, BATCH, steps, None, str(shards), 64)
                if "step" in wanted.parts and label in wanted.models:
                    results[f"{objective}, {label}: step"] = step(tensors, python, wanted.rounds, Path(folder))
            backbone, options, _ = SMALL[objective]
            side = {"img_size": LOADING_SIDE, "patch_size": 8} if "img_size" in options else {}
            pictures = Workload(
                objective,
                backbone,
                {**options, **side},
                LOADING_SIDE,
                BATCH,
                2,
                str(files),
                str(shards),
                2 * LOADING_SIDE,
            )
            if "loading" in wanted.parts:
                results[f"{objective}: loading"] = loading(pictures, python, wanted.rounds, Path(folder))
            if "ladder" in wanted.parts:
                results[f"{objective}: ladder"] = ladder(pictures, wanted.rounds, Path(folder))
            print(json.dumps(results, indent=1), flush=True)
            keep_result("train_step", "python -m tests.benchmarks.train_step", {**_kept(), **results})


def _kept() -> dict[str, Any]:
    """Figures of parts that an earlier call ran."""
    path = RESULTS / "train_step.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


if __name__ == "__main__":
    main()
