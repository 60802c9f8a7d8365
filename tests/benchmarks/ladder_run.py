"""One run of the ladder, in a process of its own: `python -m tests.benchmarks.ladder_run RUN STEPS FILE`.

RUN is a `Rung` as JSON, STEPS how many steps fill its budget (0: measure), FILE gets the figures as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.recipe import keyed_params
from stages.base import StageContext
from stages.in_process import InProcess
from stages.pretrain import PretrainParams
from stages.pretrain.planning import first_weights, make_plan
from tests.benchmarks.ladder_data import HELD_OUT, SETS, TRAIN, data_digest, ladder_shards, rows_of
from training.backbones.building import build_backbone
from training.backbones.first_weights import LIBRARY
from training.backbones.interface import Backbone
from training.backbones.weights import load_backbone
from training.evaluation.features import backbone_features
from training.evaluation.knn import knn_predictions
from training.evaluation.linear_probe import standardise
from training.evaluation.preprocessing import parse_preprocessing
from training.evaluation.protocol import V2
from training.evaluation.rank import rankme
from training.evaluation.ridge import ridge_probe
from training.evaluation.squares import decode_squares
from training.loop import Training, pretrain
from training.nonfinite import LeftOut
from training.plan import PretrainingPlan
from training.preprocessing import preprocessing
from training.shards import ShardReader

SIZE = 32
PIXELS, UNTRAINED = "pixels", "untrained"
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": (
        "vit_tiny_patch16_224",
        {"patch_size": 8, "embed_dim": 96, "depth": 3, "num_heads": 3}
        | {"class_token": False, "global_pool": "avg", "fc_norm": False},
    ),
    "resnet18": ("resnet18", {"channels": [32, 64, 128, 256], "zero_init_last": False}),
}
"""The ViT pools its patches, which all objectives train. Residual branches that begin at zero would leave an untrained
ResNet with its strided shortcuts, which see one corner of a picture: too easy to beat."""
_BANK_A_CLASS = 100
_WARM, _TIMED = 3, 9
_NO_END = 10**6


@dataclass(frozen=True)
class Rung:
    """objective: a name of the catalogue, `UNTRAINED`, or `PIXELS` with no backbone. budget: CPU-seconds."""

    objective: str
    backbone: str
    seed: int
    budget: int

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"{self.objective}/{self.backbone or '-'}/seed-{self.seed}/{self.budget}s"

    @property
    def trained(self) -> bool:
        return self.objective not in (PIXELS, UNTRAINED)


def params_of(rung: Rung, steps: int) -> PretrainParams:
    """The pretrain stage's parameters, by the objective's own small recipe."""
    name, options = BACKBONES[rung.backbone]
    return PretrainParams(
        objective=rung.objective,
        preset="small",
        backbone=name,
        backbone_options=options,
        image_size=SIZE,
        steps=steps,
        seed=rung.seed,
        precision="fp32",
        workers=1,
        threads=1,
        augment_on="device",
        log_every=max(1, steps // 20),
        checkpoint_every=_NO_END,
    )


def plan_of(rung: Rung, work: Path, steps: int) -> PretrainingPlan:
    """The training, as the pretrain stage makes it of its parameters."""
    context = StageContext(params_of(rung, steps), work, {}, InProcess())
    return make_plan(context, ShardReader(ladder_shards() / TRAIN), 1, use_gpu=False)


def recipe_digest(rung: Rung) -> str:
    """Of everything that a run's figures depend on but the code and the seed: another digest is another run."""
    probes = [V2.neighbours, V2.temperature, V2.penalties, V2.rank_eps, _BANK_A_CLASS]
    recipe: dict[str, Any] = {"data": data_digest(), "probes": probes, "objective": rung.objective}
    if rung.backbone:
        recipe["model"] = BACKBONES[rung.backbone]
    if rung.trained:
        params = params_of(rung, _NO_END)
        training = keyed_params(params)
        del training["seed"], training["first_weights"]
        if first_weights(params) != LIBRARY:
            training["first_weights"] = first_weights(params)
        recipe |= {"budget": rung.budget, "training": training}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def steps_for(rung: Rung) -> int:
    """Steps that fill the budget, by the median CPU-seconds of some steps.

    Pictures are decoded by other threads, and once: what these take of each step ends with the first epoch.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(rung, Path(folder), _NO_END)
        with contextlib.closing(Training(plan, LeftOut(Path(folder)))) as training:
            own, whole = [], []
            for step in range(_WARM + _TIMED):
                began = time.thread_time(), time.process_time()
                training._take(step)
                own.append(time.thread_time() - began[0])
                whole.append(time.process_time() - began[1])
            epoch = training.feed.steps_per_epoch
    step_seconds = statistics.median(own[_WARM:])
    decoding = epoch * max(0.0, statistics.fmean(whole[_WARM:]) - statistics.fmean(own[_WARM:]))
    return max(20, round((rung.budget - decoding) / step_seconds))


def measure(rung: Rung, steps: int) -> dict[str, Any]:
    """Train, if there is something to train, and probe; the entry of the run."""
    torch.set_num_threads(1)
    entry: dict[str, Any] = asdict(rung)
    if not rung.trained:
        return {**entry, **(_pixels() if rung.objective == PIXELS else probed(untrained_backbone(rung)))}
    steps = steps or steps_for(rung)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(rung, Path(folder), steps)
        began = time.process_time()
        pretrain(plan.to_dict())
        spent = time.process_time() - began
        entry |= {
            "steps": steps,
            "batch": plan.batch,
            "cpu_seconds": round(spent, 1),
            "images_per_cpu_s": round(steps * plan.batch / spent, 1),
            "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        if "first_weights" in plan.backbone:  # the table's untrained backbone starts otherwise
            entry["start"] = probed(untrained_backbone(rung))
        return {**entry, **probed(load_backbone(Path(folder)))}


@cache
def _pictures(name: str, source: str) -> tuple[NDArray[np.uint8], list[str]]:
    """Pixels (N, S, S, 3) of the rows that probes use, and their labels."""
    reader = ShardReader(ladder_shards() / name)
    rows, labels = rows_of(reader, source, _BANK_A_CLASS)
    encoded = [reader.encoded(row)[0] for row in rows]
    return decode_squares(encoded, [1] * len(rows), parse_preprocessing(preprocessing(SIZE)))[0], labels


def untrained_backbone(rung: Rung) -> Backbone:
    """What the run begins from; an untrained one, what most begin from."""
    plan = plan_of(rung if rung.trained else replace(rung, objective="simclr"), Path(), 1)
    return build_backbone({"backbone": plan.backbone, "seed": rung.seed})


def probed(
    backbone: Backbone, altered: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = np.asarray
) -> dict[str, Any]:
    """Accuracies of the probes on a backbone's features, and RankMe of those of the training pictures.

    altered: what is done to pictures (N, S, S, 3), the bank's as well, before the backbone sees them.
    """
    prepared = parse_preprocessing(preprocessing(SIZE))
    features = {
        (n, s): backbone_features(backbone, altered(_pictures(n, s)[0]), prepared, batch=128) for n, s in _all()
    }
    everything = np.concatenate([features[TRAIN, source] for source in SETS])
    return {**_probed(features), "rankme": round(rankme(everything, V2.rank_eps), 1)}


def _pixels() -> dict[str, Any]:
    """The same of raw pixels, whose colours are standardised."""
    features: dict[tuple[str, str], NDArray[np.floating]] = {}
    for source in SETS:
        flat = [_pictures(n, source)[0].reshape(len(_pictures(n, source)[1]), -1) for n in (TRAIN, HELD_OUT)]
        bank, queries = standardise(*(pixels.astype(np.float32) for pixels in flat))
        features |= {(TRAIN, source): bank, (HELD_OUT, source): queries}
    return _probed(features)


def _all() -> list[tuple[str, str]]:
    return [(name, source) for name in (TRAIN, HELD_OUT) for source in SETS]


def _probed(features: dict[tuple[str, str], NDArray[np.floating]]) -> dict[str, Any]:
    """kNN and linear (ridge) accuracy on each set's held-out pictures, their means, and which pictures were right."""
    sets: dict[str, dict[str, Any]] = {}
    for source in SETS:
        bank_labels, truth = _pictures(TRAIN, source)[1], _pictures(HELD_OUT, source)[1]
        classes = sorted(set(bank_labels))
        numbers = [np.array([classes.index(label) for label in labels]) for labels in (bank_labels, truth)]
        bank, queries = features[TRAIN, source], features[HELD_OUT, source]
        k, temperature = V2.neighbours, V2.temperature
        predicted = {
            "knn": knn_predictions(bank, numbers[0], queries, [k], temperature=temperature)[k],
            "linear": ridge_probe(bank, numbers[0], queries, penalties=V2.penalties).predictions,
        }
        right = {probe: values == numbers[1] for probe, values in predicted.items()}
        sets[source] = {probe: round(float(values.mean()), 4) for probe, values in right.items()}
        sets[source]["right"] = {
            probe: base64.b64encode(np.packbits(v).tobytes()).decode() for probe, v in right.items()
        }
        sets[source]["queries"] = len(truth)
    means = {probe: round(statistics.fmean(found[probe] for found in sets.values()), 4) for probe in ("knn", "linear")}
    return {**means, "sets": sets}


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(measure(Rung(**json.loads(sys.argv[1])), int(sys.argv[2]))))
