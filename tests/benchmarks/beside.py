"""Our objectives beside those of peers: `python -m tests.benchmarks.beside [--peer lightly] [--seeds 0,1,2]`.

The peer's heads, losses, teachers and transforms, with the values of our small recipes, train the same backbone from
the same first weights on the same pictures, for the steps, batch, optimiser and schedules that the ladder's run of the
same objective and seed had; then both are probed alike. What stands beside the same run is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from safetensors.torch import load_file

from tests.benchmarks.ladder import BUDGETS, kept
from tests.benchmarks.ladder_data import TRAIN, ladder_shards
from tests.benchmarks.ladder_run import Rung, plan_of, probed, recipe_digest, untrained_backbone
from tests.benchmarks.ladder_table import PROBES, gain
from tests.benchmarks.peers import RESULTS, ROOT, keep_result, peer_python
from tests.benchmarks.train_step import PEERS
from training.backbones.weights import save_weights
from training.decoding import upright_rgb
from training.evaluation.intervals import paired_difference
from training.shards import ShardReader

COMMAND = "python -m tests.benchmarks.beside"
METHODS = {
    "lightly": ("simclr", "byol", "barlow_twins", "vicreg", "dcl", "swav", "dino", "mae"),
    "stable_pretraining": ("simclr", "barlow_twins", "vicreg", "swav", "mae"),
}
BACKBONE = "vit"


def theirs(peer: str, rung: Rung, steps: int) -> dict[str, Any]:
    """The figures of the peer's training of a run."""
    plan = plan_of(rung, Path("work"), steps).to_dict()
    with tempfile.TemporaryDirectory() as folder:
        job, weights, out = (Path(folder) / name for name in ("job.json", "first.safetensors", "last.safetensors"))
        save_weights(untrained_backbone(rung), weights)
        job.write_text(json.dumps({"plan": plan, "weights": str(weights), "pictures": str(pictures())}))
        python = peer_python("training-loops", PEERS)
        done = subprocess.run(
            [str(python), "-m", "tests.benchmarks.beside_train", peer, str(job), str(out)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        backbone = untrained_backbone(rung)
        backbone.model.load_state_dict(load_file(out))
        return {**json.loads(done.stdout.splitlines()[-1]), **probed(backbone)}


def pictures() -> Path:
    """The ladder's training pictures as files, for lightly to read."""
    folder = ladder_shards() / "pictures"
    reader = ShardReader(ladder_shards() / TRAIN)
    if not (folder / f"{len(reader) - 1:05d}.png").exists():
        folder.mkdir(exist_ok=True)
        for row in range(len(reader)):
            upright_rgb(*reader.encoded(row)).save(folder / f"{row:05d}.png")
    return folder


def run(peer: str, objectives: Sequence[str], seeds: Sequence[int], budget: int) -> dict[str, Any]:
    """Train what is missing; returns all entries by peer and by the key of the run that they stand beside."""
    path = RESULTS / "beside.json"
    entries: dict[str, Any] = json.loads(path.read_text())["figures"]["runs"] if path.exists() else {}
    for seed in seeds:
        for name in objectives:
            rung = Rung(name, BACKBONE, seed, budget)
            key, ours = f"{peer}/{rung.key}", kept().get(rung.key)
            if ours is None or ours["recipe"] != recipe_digest(rung):
                print(f"{rung.key}: the ladder has no such run by the present recipe")
                continue
            if entries.get(key, {}).get("recipe") != ours["recipe"]:
                found = theirs(peer, rung, ours["steps"])
                entries[key] = {"peer": peer, "run": rung.key, "recipe": ours["recipe"], **found}
                print(f"{rung.key}: ours {ours['knn']:.3f}, {peer}'s {found['knn']:.3f}", flush=True)
            keep_result("beside", COMMAND, {"rows": table(entries), "runs": entries})
    return entries


def table(entries: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for a peer's objective, of the runs that still stand in the ladder by the same recipe."""
    ladder, groups = kept(), defaultdict(list)
    for entry in entries.values():
        ours = ladder.get(entry["run"], {})
        if ours.get("recipe") == entry["recipe"]:
            groups[entry["peer"], ours["objective"]].append((ours, entry))
    return [compared(peer, groups[peer, name]) for peer, names in METHODS.items() for name in names
            if (peer, name) in groups]  # fmt: skip


def compared(peer: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Ours minus theirs: mean over seeds, with an interval over seeds, or over the pictures where there is one."""
    ours, others = zip(*pairs, strict=True)
    row = {"objective": ours[0]["objective"], "peer": peer, "backbone": BACKBONE, "seeds": len(pairs)}
    for probe in PROBES:
        one, other = [entry[probe] for entry in ours], [entry[probe] for entry in others]
        difference = paired_difference(one, other) if len(pairs) > 1 else gain(ours, others, probe)
        row[probe] = {"ours": round(fmean(one), 4), "theirs": round(fmean(other), 4)}
        row[f"{probe}_difference"] = [round(value, 4) for value in difference if value is not None]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="lightly", choices=METHODS)
    parser.add_argument("--objectives", help="all that the peer is asked for, if not given")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", type=int, default=BUDGETS[BACKBONE], help="of the ladder's runs to stand beside")
    given = parser.parse_args()
    objectives = given.objectives.split(",") if given.objectives else METHODS[given.peer]
    entries = run(given.peer, objectives, [int(seed) for seed in given.seeds.split(",")], given.budget)
    for row in table(entries):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
