"""Our loader beside others, on the same JPEGs of 256 x 256 pixels: `python -m tests.benchmarks.loader`.

Decoded images and raw samples per CPU-second (of the whole process tree, without imports) and per second of wall
clock, seconds to the first batch, and memory. Runs of all systems take turns; medians count. Every peer has OpenCV's
JPEG decoder, tensor collate and two workers; ours has two threads, no cache of decoded pictures, and its own decoder.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.loaders.pictures import write_pictures
from tests.benchmarks.peers import ENVIRONMENTS, ROOT, keep_result, peer_python

IMAGES = 3072
REPEATS = {"decode": 3, "raw": 2}
GOAL = 1.4
OURS = "curatrain"
FROM_FILES = ("files", "arrow")
BY_HAND = "lance_threads"
PEERS = (*FROM_FILES, "webdataset", "mosaic", "litdata", "datasets", "lance", BY_HAND)
REQUIREMENTS = [
    "torch==2.14.1",
    "torchvision==0.29.1",
    "mosaicml-streaming",
    "litdata",
    "webdataset",
    "datasets",
    "pylance",
    "opencv-python-headless",
]
_LIMIT_S = 240


def prepare(python: Path) -> tuple[Path, dict[str, str]]:
    """The data of all systems, and what went wrong where a peer cannot write its own."""
    folder = ENVIRONMENTS / f"loader-{IMAGES}"
    if not (folder / "shards" / "index.json").exists():
        write_pictures(folder, IMAGES)
    failed = {}
    for system in PEERS[len(FROM_FILES) : PEERS.index(BY_HAND)]:
        if not (folder / system).exists():
            command = [str(python), "-m", "tests.benchmarks.loaders.peer_formats", system, str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S)
            if done.returncode:
                failed[system] = _last_line(done.stderr)
    return folder, failed


def run_once(python: Path, system: str, mode: str, folder: Path) -> dict[str, float] | str:
    """The figures of one process, or what it failed with."""
    module = "ours" if system == OURS else "peer_loaders"
    interpreter = sys.executable if system == OURS else str(python)
    arguments = [mode, str(folder)] if system == OURS else [system, mode, str(folder)]
    command = [interpreter, "-m", f"tests.benchmarks.loaders.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, deadline = 0.0, time.monotonic() + _LIMIT_S
    while process.poll() is None:
        peak = max(peak, _tree_memory_mb(process.pid))
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.3)
    out, err = process.communicate()
    if process.returncode or not out.strip():
        return _last_line(err) or f"no figures within {_LIMIT_S} s"
    return {**json.loads(out.splitlines()[-1]), "peak_memory_mb": peak}


def _tree_memory_mb(pid: int) -> float:
    """Proportional set size of a process and its children: what they share counts once."""
    try:
        root = psutil.Process(pid)
        return sum(each.memory_full_info().pss for each in [root, *root.children(recursive=True)]) / 1e6
    except psutil.Error:
        return 0.0


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:300]


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    figures = {
        "per_cpu_s": [run["images"] / run["cpu_s"] for run in runs],
        "per_s": [run["images"] / run["wall_s"] for run in runs],
        **{name: [run[name] for run in runs] for name in ("first_batch_s", "import_cpu_s", "peak_memory_mb")},
    }
    return {name: round(statistics.median(values), 2) for name, values in figures.items()}


def compare(python: Path, folder: Path, mode: str, systems: list[str], failed: dict[str, str]) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
    for _ in range(REPEATS[mode]):
        for system in systems:
            if system in failed:
                continue
            found = run_once(python, system, mode, folder)
            if isinstance(found, str):
                failed[system] = found
            else:
                runs[system].append(found)
                print(f"{mode} {system}: {found['images'] / found['cpu_s']:,.0f} a CPU-second", flush=True)
    rows = {system: summary(found) for system, found in runs.items() if found}
    for system, row in rows.items():
        print(f"{mode:7s}{system:12s}" + "".join(f"  {name} {value:,.2f}" for name, value in row.items()), flush=True)
    ratios = {}
    for figure in ("per_cpu_s", "per_s"):
        best = max((system for system in rows if system != OURS), key=lambda system: rows[system][figure])
        ratios[figure] = {"best_peer": best, "ratio": round(rows[OURS][figure] / rows[best][figure], 3)}
    print(f"{mode}: {ratios}", flush=True)
    return {"systems": rows, "ours_over_best": ratios}


def main() -> None:
    python = peer_python("loaders", REQUIREMENTS)
    folder, failed = prepare(python)
    size = sum(path.stat().st_size for path in (folder / "files").glob("*.jpg")) / IMAGES
    figures: dict[str, Any] = {"images": IMAGES, "mean_bytes": round(size), "goal": GOAL, "repeats": REPEATS}
    for mode in REPEATS:
        figures[mode] = compare(python, folder, mode, [OURS, *PEERS], failed)
    figures["failed"] = failed
    print(keep_result("loader", "python -m tests.benchmarks.loader", figures))


if __name__ == "__main__":
    main()
