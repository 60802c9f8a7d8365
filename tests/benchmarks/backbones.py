"""Small vision transformers with and without what a paper adds to them: `python -m tests.benchmarks.backbones run`.

token_boost: MAE on pictures of which each is corrupted, with and without token boosting (arXiv:2304.04175); probed on
  clean pictures, and on pictures corrupted as those of the training ("spoilt").
pixels: MAE with patches of 4, 2 and 1 pixels in the same CPU-seconds (arXiv:2406.09415).
registers: DINO with 0 and 4 registers (arXiv:2309.16588); also the share of patch tokens of abnormal norm.
head: SimCLR behind an MLP, behind nothing, and behind a fixed head that scales channel i by 0.95^i (arXiv:2403.11391).

Pictures, held-out sets and probes are the ladder's (`ladder_data`, `ladder_run`). Every run has one thread and the
same budget; the first run of a variant makes steps of it, and its other seeds take as many. Runs are kept one by one,
so an interrupted benchmark goes on where it was. `table` prints the mean of each variant over its seeds, and what it
gains on the first variant at the same seeds with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from stages.base import StageContext
from stages.in_process import InProcess
from stages.pretrain import PretrainParams
from stages.pretrain.planning import make_plan
from tests.benchmarks.ladder_data import HELD_OUT, TRAIN, ladder_shards
from tests.benchmarks.ladder_run import SIZE, probed
from tests.benchmarks.peers import RESULTS, keep_result
from training.backbones.interface import Backbone
from training.backbones.weights import load_backbone
from training.decoding import canvas
from training.evaluation.corruptions.catalogue import corrupt
from training.evaluation.intervals import t_interval
from training.evaluation.norm_outliers import norm_outliers
from training.loop import Training, pretrain
from training.nonfinite import LeftOut
from training.objectives.simclr import SimCLR
from training.plan import PretrainingPlan
from training.preprocessing import MEAN, STD
from training.shards import SAMPLES, ShardReader, ShardsWriter
from training.shards.index import INDEX

COMMAND = "python -m tests.benchmarks.backbones run"
_VIT = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
_CORRUPTIONS = ("gaussian_noise", "impulse_noise", "defocus_blur", "motion_blur", "jpeg", "pixelate")
_SEVERITY = 3
_WARM, _TIMED, _NO_END = 2, 5, 10**6
_NORM_PICTURES = 256


@dataclass(frozen=True)
class Variant:
    """objective, batch: of the training. options: what differs in the backbone. decay: of a fixed head in the place
    of the projector, 1 for no head. corrupted: train on corrupted pictures."""

    objective: str
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 128
    decay: float | None = None
    corrupted: bool = False


COMPARISONS: dict[str, dict[str, Variant]] = {
    "token_boost": {
        "without": Variant("mae", {"patch_size": 4}, corrupted=True),
        "with": Variant("mae", {"patch_size": 4, "token_boost": True}, corrupted=True),
    },
    "pixels": {f"patch {p}": Variant("mae", {"patch_size": p}, batch) for p, batch in ((4, 128), (2, 64), (1, 32))},
    "registers": {
        "0": Variant("dino", {"patch_size": 4}, 64),
        "4": Variant("dino", {"patch_size": 4, "reg_tokens": 4}, 64),
    },
    "head": {"mlp": Variant("simclr"), "none": Variant("simclr", decay=1.0), "fixed": Variant("simclr", decay=0.95)},
}


class FixedHead(nn.Module):
    """Scales channel i by decay^i, after the reweighting head of Xue et al., 2024, arXiv:2403.11391."""

    scale: Tensor

    def __init__(self, dim: int, decay: float) -> None:
        super().__init__()
        self.register_buffer("scale", decay ** torch.arange(dim, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def _corruption(key: str) -> str:
    """The one that a picture of this id or digest gets."""
    return _CORRUPTIONS[int(key[:8], 16) % len(_CORRUPTIONS)]


def spoilt(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, S, S, 3) pictures, each under one corruption that its pixels decide."""
    keys = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels]
    return np.stack([corrupt(p, _corruption(key), _SEVERITY, key) for p, key in zip(pixels, keys, strict=True)])


def corrupted_shards() -> Path:
    """The ladder's training pictures, each under one corruption that its id decides."""
    folder = ladder_shards() / "corrupted"
    if (folder / INDEX).exists():
        return folder
    reader = ShardReader(ladder_shards() / TRAIN)
    rows: list[dict[str, Any]] = []
    for row in range(len(reader)):
        pixels = canvas(*reader.encoded(row), SIZE).pixels.transpose(1, 2, 0)
        image_id = reader.sample(row)["image_id"]
        name = _corruption(image_id)
        buffer = io.BytesIO()
        Image.fromarray(corrupt(pixels, name, _SEVERITY, image_id)).save(buffer, "PNG")
        data = buffer.getvalue()
        sample = {"image_id": hashlib.sha256(data).hexdigest(), "bytes": data, "frames": [], "orientation": 1}
        rows.append({**sample, "source": name, "source_weight": 1.0, "captions": [], "group_id": "", "weight": 1.0})
    with ShardsWriter(folder) as writer:
        writer.write(pa.Table.from_pylist(sorted(rows, key=lambda r: r["image_id"]), schema=SAMPLES))
        writer.finish()
    return folder


def plan_of(variant: Variant, seed: int, work: Path, steps: int) -> PretrainingPlan:
    """The training, as the pretrain stage makes it of its parameters."""
    params = PretrainParams(
        objective=variant.objective,
        preset="small",
        backbone="vit_tiny_patch16_224",
        backbone_options={**_VIT, **variant.options},
        image_size=SIZE,
        steps=steps,
        batch=variant.batch,
        seed=seed,
        precision="fp32",
        workers=1,
        threads=1,
        augment_on="device",
        log_every=max(1, steps // 20),
        checkpoint_every=_NO_END,
    )
    shards = corrupted_shards() if variant.corrupted else ladder_shards() / TRAIN
    return make_plan(StageContext(params, work, {}, InProcess()), ShardReader(shards), 1, use_gpu=False)


@contextlib.contextmanager
def _headed(variant: Variant) -> Iterator[None]:
    """SimCLR behind the variant's head."""
    decay = variant.decay
    if decay is None:
        yield
        return

    def build(objective: SimCLR, backbone: Backbone) -> None:
        objective.projector = FixedHead(backbone.dim, decay)  # type: ignore[assignment]

    with mock.patch.object(SimCLR, "build", build):
        yield


def steps_for(variant: Variant, budget: int) -> int:
    """Steps that fill the budget, by the median CPU-seconds of some."""
    with tempfile.TemporaryDirectory() as folder, _headed(variant):
        plan = plan_of(variant, 0, Path(folder), _NO_END)
        with contextlib.closing(Training(plan, LeftOut(Path(folder)))) as training:
            seconds = []
            for step in range(_WARM + _TIMED):
                began = time.thread_time()
                training._take(step)
                seconds.append(time.thread_time() - began)
    return max(10, round(budget / statistics.median(seconds[_WARM:])))


def measure(variant: Variant, seed: int, steps: int) -> dict[str, Any]:
    """Train and probe; the entry of the run."""
    with tempfile.TemporaryDirectory() as folder, _headed(variant):
        plan = plan_of(variant, seed, Path(folder), steps)
        began = time.process_time()
        pretrain(plan.to_dict())
        spent = time.process_time() - began
        backbone = load_backbone(Path(folder))
    found = probed(backbone)
    sets = {name: {probe: each[probe] for probe in ("knn", "linear")} for name, each in found["sets"].items()}
    under = probed(backbone, spoilt) if variant.corrupted else {}
    return {
        "steps": steps,
        "batch": plan.batch,
        "cpu_seconds": round(spent, 1),
        "knn": found["knn"],
        "linear": found["linear"],
        "rankme": found["rankme"],
        "norm_outliers": round(outlier_share(backbone), 5),
        "sets": sets,
        **{f"{probe}_spoilt": under[probe] for probe in ("knn", "linear") if under},
    }


@torch.no_grad()
def outlier_share(backbone: Backbone) -> float:
    """Share of the patch tokens before the last norm whose norm is abnormal, on held-out pictures."""
    reader = ShardReader(ladder_shards() / HELD_OUT)
    rows = np.linspace(0, len(reader) - 1, _NORM_PICTURES).astype(int).tolist()
    pixels = np.stack([canvas(*reader.encoded(row), SIZE).pixels for row in rows])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    tokens = backbone.eval().tokens((torch.from_numpy(pixels).float() / 255 - mean) / std, layers=[-1])
    return float(norm_outliers(tokens.hidden[-1][:, tokens.prefix :].numpy(), resamples=10).share)


def kept() -> dict[str, dict[str, Any]]:
    """The entries of all runs that were kept, by comparison, variant, seed and budget."""
    path = RESULTS / "backbones.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def _of(entries: dict[str, dict[str, Any]], comparison: str, name: str, budget: int) -> dict[str, dict[str, Any]]:
    """The entries of a variant, by seed."""
    keys = [key.split("/") for key in entries]
    return {k[2]: entries["/".join(k)] for k in keys if k[:2] == [comparison, name] and k[3] == f"{budget}s"}


def run(comparisons: list[str], seeds: list[int], budget: int) -> None:
    """Run what is not kept, seed by seed."""
    torch.set_num_threads(1)
    for seed in seeds:
        for comparison in comparisons:
            for name, variant in COMPARISONS[comparison].items():
                key, entries = f"{comparison}/{name}/seed-{seed}/{budget}s", kept()
                if key in entries:
                    continue
                before = list(_of(entries, comparison, name, budget).values())
                steps = before[0]["steps"] if before else steps_for(variant, budget)
                entry = measure(variant, seed, steps)
                print(key, {name: value for name, value in entry.items() if name != "sets"}, flush=True)
                keep_result("backbones", COMMAND, {**kept(), key: entry})


def table(budget: int) -> None:
    """Print what stands."""
    entries = kept()
    for comparison, variants in COMPARISONS.items():
        by_variant = {name: _of(entries, comparison, name, budget) for name in variants}
        first = by_variant[next(iter(variants))]
        for name, runs in by_variant.items():
            if runs:
                print(f"{comparison:12} {name:10} {_figures(runs, first)}")


def _figures(runs: dict[str, dict[str, Any]], first: dict[str, dict[str, Any]]) -> str:
    parts = [f"seeds {len(runs)}", f"steps {next(iter(runs.values()))['steps']}"]
    for figure in ("knn", "linear", "knn_spoilt", "linear_spoilt", "norm_outliers", "cpu_seconds"):
        if any(figure not in entry for entry in (*runs.values(), *first.values())):
            continue
        mean = statistics.fmean(entry[figure] for entry in runs.values())
        text = f"{figure} {mean:.4g}"
        shared = [seed for seed in runs if seed in first]
        if runs is not first and shared and figure.startswith(("knn", "linear")):
            gain, low, high = t_interval([runs[seed][figure] - first[seed][figure] for seed in shared])
            text += f" ({gain:+.4f}" + (f", {low:+.4f} to {high:+.4f})" if low is not None else ")")
        parts.append(text)
    return "  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--comparisons", nargs="+", default=list(COMPARISONS), choices=list(COMPARISONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=30, help="CPU-seconds of a training")
    wanted = parser.parse_args()
    if wanted.action == "run":
        run(wanted.comparisons, wanted.seeds, wanted.budget)
    table(wanted.budget)


if __name__ == "__main__":
    main()
