"""A training on a Ray cluster of two nodes, one of which dies: `python -m tests.pipelines.losing_node FOLDER`.

A process of its own, since a cluster takes the process that starts it. Each node holds one rank, as a machine with one
GPU does. What the trainings ran on, and their histories, are left in the folder as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from pipelines.executors.ray_compute import RayCompute
from tests.training.objectives.small_models import small_plan
from tests.training.samples import write_sample_shards
from training.history import HISTORY, read_history
from training.loop import FACTS, pretrain

TOLD = "told.json"
STEPS, LOST_AFTER = 300, 60
NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.2", "object_store_memory": 80_000_000}


class OneCpuARank(RayCompute):
    """Ranks take a whole CPU each, and do not share what is left when a node goes."""

    def cpus(self) -> int:
        return 2


def main(folder: Path) -> None:
    shards = write_sample_shards(folder / "shards", 48)
    shared = {"steps": STEPS, "log_every": 20, "checkpoint_every": 20, "optimiser": "sgd", "lr": 1e-3}
    plan = small_plan("mae", shards, folder / "cluster", **shared)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        second = cluster.add_node(**NODE)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        found: list[dict] = []

        def look() -> None:
            facts = Path(plan.work) / FACTS
            if facts.exists() and (text := facts.read_text()):
                now = json.loads(text)
                if now not in found:
                    found.append(now)
            history = Path(plan.work) / HISTORY
            lines = history.read_text().splitlines() if history.exists() else []
            if len(lines) >= LOST_AFTER // 20 and second in cluster.worker_nodes:
                cluster.remove_node(second, allow_graceful=False)

        OneCpuARank(folder / "scratch").train(
            pretrain, plan.to_dict(), workers=2, fewer=[1], use_gpu=False, on_poll=look
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    alone = small_plan("mae", shards, folder / "alone", **shared)
    pretrain(alone.to_dict())
    histories = {name: read_history(Path(p.work) / HISTORY) for name, p in (("lost", plan), ("alone", alone))}
    (folder / TOLD).write_text(json.dumps({"facts": found, "histories": histories}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
