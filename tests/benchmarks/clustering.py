"""k-means and hierarchical k-means against faiss and pt_kmeans: `python -m tests.benchmarks.clustering`.

k-means: 50,000 x 256 unit vectors, 500 clusters, 20 iterations; a lower potential is better. Each method runs in a
process of its own with one thread, since threads that wait for each other count as CPU time. Hierarchy: five rings of
20000, 200, 1000, 500 and 8000 points, 1,000 and 300 clusters, 10 resampling rounds, 1,000 points sampled; the balance
is the rarest ring's share over the commonest's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from curation.hierarchy import hierarchical_kmeans
from curation.kmeans import kmeans
from curation.sampling import balanced_sample, id_keys
from tests.benchmarks.clustering_data import cpu_seconds, rings, sphere_clusters
from tests.benchmarks.neighbours_data import ONE_THREAD, in_own_process
from tests.benchmarks.peers import keep_result, peer_python

MODULE = "tests.benchmarks.clustering"
REPEATS = 3


def main() -> None:
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "faiss": [], "pt_kmeans": []}
    for seed in range(REPEATS):
        for name in METHODS:
            runs[name].append(in_own_process(MODULE, name, str(seed)))
    runs["pt_kmeans"].append(_pt_kmeans())
    medians = {name: {key: median(run[key] for run in found) for key in found[0]} for name, found in runs.items()}
    rings_found = [in_own_process(MODULE, "rings", str(seed)) for seed in range(REPEATS)]
    figures: dict[str, Any] = {"kmeans": medians, "rings": rings_found}
    keep_result("clustering", f"python -m {MODULE}", figures)
    print(json.dumps(figures, indent=1))


def _ours(seed: int) -> dict[str, float]:
    points = sphere_clusters()
    started = cpu_seconds()
    found = kmeans(points, 500, seed=seed, iterations=20)
    return {"cpu_s": round(cpu_seconds() - started, 2), "potential": round(found.inertia, 1)}


def _faiss(seed: int) -> dict[str, float]:
    points = sphere_clusters()
    started = cpu_seconds()
    found = faiss.Kmeans(points.shape[1], 500, niter=20, seed=seed, max_points_per_centroid=len(points))
    found.train(points)
    spent = cpu_seconds() - started
    return {"cpu_s": round(spent, 2), "potential": round(float(found.index.search(points, 1)[0].sum()), 1)}


def _pt_kmeans() -> dict[str, float]:
    python = peer_python("pt_kmeans", ["torch", "pt-kmeans==0.9.2"])
    script = Path(__file__).parent / "peer_pt_kmeans.py"
    done = subprocess.run(
        [str(python), str(script)], capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD}
    )
    return json.loads(done.stdout)


def _rings(seed: int) -> dict[str, Any]:
    points, ring = rings(seed)
    started = cpu_seconds()
    tree = hierarchical_kmeans(points, [1000, 300], seed=seed, rounds=10, iterations=50)
    keys = id_keys([str(row) for row in range(len(points))], seed)
    counts = np.bincount(ring[balanced_sample(tree.paths(), 1000, keys)], minlength=5)
    spent = round(cpu_seconds() - started, 2)
    return {"cpu_s": spent, "balance": round(float(counts.min() / counts.max()), 3), "sampled": counts.tolist()}


METHODS: dict[str, Callable[[int], dict[str, float]]] = {"ours": _ours, "faiss": _faiss}

if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps({**METHODS, "rings": _rings}[sys.argv[1]](int(sys.argv[2]))))
