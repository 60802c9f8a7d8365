"""What curation costs as a pool grows: `python -m tests.benchmarks.curation_scale`; with `plan`, the plan alone;
with a size, that size again, or some of its steps: `... curation_scale 10000000 kmeans tree assign`.

Half-precision rows of 128 numbers in a file, around N / 100 concepts of Zipf frequencies, a tenth of them planted
near-copies; 10 thousand, 100 thousand and 1 million of them. Each step on each size is a process of its own, with its
rows mapped from the file: CPU seconds of all threads, and peak memory. Steps: `pairs` compares all (up to 100
thousand), `cells` those of near cells, both for k = 64 and cosine 0.9; `kmeans` 5 iterations of 2 √N clusters;
`tree` N / 100 clusters by way of √N / 10, then two levels above with two rounds of resampling; `assign` to 2 √N.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.assignment import assign
from curation.hierarchy import hierarchical_kmeans
from curation.kmeans import kmeans
from curation.nearest import Links
from curation.row_files import RowFiles
from curation.shared_kmeans import SharedClustering
from curation.shared_neighbours import Cells, Search, all_links, cell_links, sample_recall
from tests.benchmarks.neighbours_data import concepts_file, in_own_process, spent
from tests.benchmarks.peers import RESULTS, keep_result

MODULE = "tests.benchmarks.curation_scale"
SIZES = (10_000, 100_000, 1_000_000)
WIDTH, K, THRESHOLD, PART_ROWS = 128, 64, 0.9, 1 << 16


def pairs(points: RowFiles, repeated: NDArray[np.int64], folder: Path) -> dict[str, float]:
    return _found(all_links(_search(points, folder), one_by_one), len(points), repeated)


def cells(points: RowFiles, repeated: NDArray[np.int64], folder: Path) -> dict[str, float]:
    search = _search(points, folder)
    links = cell_links(search, Cells(), one_by_one)
    figures = spent()
    return {**figures, **_found(links, len(points), repeated), "recall": _recall(search, links)}


def kmeans_step(points: RowFiles, repeated: NDArray[np.int64], folder: Path) -> dict[str, float]:
    del repeated, folder
    found = kmeans(points, 2 * math.isqrt(len(points)), seed=0, iterations=5)
    return {"potential": found.inertia / len(points)}


def tree(points: RowFiles, repeated: NDArray[np.int64], folder: Path) -> dict[str, float]:
    del repeated
    root = math.isqrt(len(points))
    counts = [len(points) // 100, max(12, root // 10), max(4, root // 100)]
    made = hierarchical_kmeans(
        points,
        counts,
        seed=0,
        rounds=2,
        iterations=5,
        nearest=[1, 5, 3],
        coarse=max(10, root // 10),
        clustering=SharedClustering(one_by_one, folder / "tree"),
    )
    return {"potential": made.levels[0].inertia / len(points)}


def assign_step(points: RowFiles, repeated: NDArray[np.int64], folder: Path) -> dict[str, float]:
    del repeated, folder
    size = 2 * math.isqrt(len(points))
    return {"potential": float(assign(points, np.ascontiguousarray(points[:size]))[1].mean())}


STEPS: dict[str, Callable[[RowFiles, NDArray[np.int64], Path], dict[str, float]]] = {
    "pairs": pairs,
    "cells": cells,
    "kmeans": kmeans_step,
    "tree": tree,
    "assign": assign_step,
}


def main(sizes: Sequence[int], figures: dict[str, Any], steps: Sequence[str] = ()) -> None:
    """Measure some sizes, beside those that are known; every step is kept as soon as it is measured."""
    for size in sizes:
        found = figures.setdefault(str(size), {})
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "repeated.npy", concepts_file(Path(folder) / "rows.npy", size, WIDTH))
            for name in steps or STEPS:
                if name == "pairs" and size > 100_000:
                    continue
                found[name] = in_own_process(MODULE, name, folder)
                print(size, name, json.dumps(found[name]), flush=True)
                keep_result("curation_scale", f"python -m {MODULE}", {**figures, "exponents": exponents(figures)})
    print(plan(figures))


def exponents(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Slope of log CPU seconds over log size of each step: over all sizes, and between the two largest, where what a
    process costs at its start weighs least."""
    fitted = {}
    for name in STEPS:
        known = [(int(size), found[name]["cpu_s"]) for size, found in figures.items() if name in found]
        if len(known) > 1:
            sizes, costs = np.log(np.array(known)).T
            slopes = (np.polyfit(sizes[first:], costs[first:], 1)[0] for first in (0, -2))
            fitted[name] = dict(zip(("all", "largest"), (round(float(slope), 2) for slope in slopes), strict=True))
    return fitted


def plan(figures: dict[str, Any], images: int = 10**9, width: int = 1024, nodes: int = 16, cores: int = 64) -> str:
    """What a pool of `images` embeddings of `width` numbers would take, by the figures of the largest size measured.

    The arithmetic of every step but `pairs` (2) grows as N^1.5 with the numbers of clusters, cells and coarse
    clusters that they have here, and with the width. Embeddings are read once a pass: k-means makes 6, cells 2, the
    tree 14, assignment 1.
    """
    passes = {"cells": 2, "kmeans": 6, "tree": 14, "assign": 1, "pairs": 1}
    vectors = images * width * 2
    stored = {
        "embeddings, float16": vectors,
        "256-bit codes": images * 32,
        "labels and bounds of k-means": images * 16,
        "32 cells probed by each row": images * 33 * 8,
        "links, if 4 a row": images * 80,
    }
    lines = [f"{images:,} images, {width} numbers each, on {nodes} nodes of {cores} cores:"]
    lines += [f"  {name}: {size / 1e12:.2f} TB" for name, size in stored.items()]
    lines.append("step       CPU-hours    hours  TB read")
    for name, count in passes.items():
        size = max(int(key) for key, found in figures.items() if key.isdigit() and name in found)
        growth = (images / size) ** (2 if name == "pairs" else 1.5) * width / WIDTH
        cost = figures[str(size)][name]["cpu_s"] * growth / 3600
        lines.append(f"{name:8s} {cost:11,.0f} {cost / nodes / cores:8,.1f} {count * vectors / 1e12:8.1f}")
    return "\n".join(lines)


def measure(name: str, folder: Path) -> dict[str, float]:
    """One step on the rows in a folder, in this process."""
    points = RowFiles([str(folder / "rows.npy")], unit=True)
    before = spent()["cpu_s"]
    with tempfile.TemporaryDirectory(dir=folder) as work:
        found = STEPS[name](points, np.load(folder / "repeated.npy"), Path(work))
    figures = {**spent(), **found}
    figures["cpu_s"] -= before
    return {key: round(value, 4) for key, value in figures.items()}


def one_by_one(worker: type, config: Any, tasks: Any, *, on_done: Callable[[dict[str, Any]], None]) -> None:
    """Every task in this process."""
    call = worker(**config)
    for task in tasks:
        on_done(call(task))


def kept() -> dict[str, Any]:
    """The figures of the sizes that were measured before."""
    found = json.loads((RESULTS / "curation_scale.json").read_text())["figures"]
    return {size: figures for size, figures in found.items() if size.isdigit()}


def _search(points: RowFiles, folder: Path) -> Search:
    return Search(points, THRESHOLD, K, folder, PART_ROWS)


def _recall(search: Search, links: Links) -> float:
    """How much of the exact links of 200 rows was found; what it takes is not counted."""
    return sample_recall(search, links, one_by_one, 200).share


def _found(links: Links, count: int, repeated: NDArray[np.int64]) -> dict[str, float]:
    """Share of the planted copies that are linked, in either direction."""
    copies = np.arange(count - len(repeated), count)
    keys = np.minimum(links.rows, links.columns) * count + np.maximum(links.rows, links.columns)
    return {"planted": float(np.isin(repeated * count + copies, keys).mean()), "links": float(len(links.rows))}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main(SIZES, {})
    elif sys.argv[1] == "plan":
        print(plan(kept()))
    elif sys.argv[1].isdigit():
        main([int(sys.argv[1])], kept(), sys.argv[2:])
    else:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
