"""One training: from parameters to a plan, watched while it runs, checked and reported when it ends."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from stages.base import StageContext, StageError, StageResult
from stages.pretrain import PretrainParams
from stages.pretrain.planning import make_plan
from stages.pretrain.report import draw_curves
from stages.pretrain.training_page import training_page
from stages.pretrain.views_page import views_page
from stages.tables import files_digest
from training.collapse import REMEDIES
from training.history import HISTORY, read_history
from training.loop import FACTS, FAILURE, pretrain
from training.nonfinite import NONFINITE
from training.plan import PretrainingPlan
from training.shards import ShardError, ShardReader

WEIGHTS = ["backbone.safetensors", "heads.safetensors"]


def train_backbone(ctx: StageContext[PretrainParams]) -> StageResult:
    """Train, or go on training, into `ctx.work`."""
    reader = _reader(ctx)
    gpus = ctx.compute.gpus()
    workers, *fewer = _worker_counts(ctx.params, gpus)
    plan = make_plan(ctx, reader, workers, use_gpu=gpus > 0)
    ctx.note(_where(workers, gpus, plan))
    (ctx.report / "views.html").write_text(views_page(reader, plan), encoding="utf-8")
    for name in (FAILURE, FACTS):
        (ctx.work / name).unlink(missing_ok=True)
    watch = _Watch(ctx, plan)
    try:
        ctx.compute.train(pretrain, plan.to_dict(), workers=workers, fewer=fewer, use_gpu=gpus > 0, on_poll=watch.poll)
    except Exception as error:
        _explain(ctx.work / FAILURE, error)
        raise
    if not (ctx.work / WEIGHTS[0]).exists():
        ctx.check_cancelled()
        raise StageError("the training ended before its last step: submit again, it goes on from its last checkpoint")
    return _finish(ctx, plan, rows=len(reader), on_gpu=gpus > 0)


def _reader(ctx: StageContext[PretrainParams]) -> ShardReader:
    try:
        return ShardReader(ctx.inputs["shards"].path / "shards")
    except ShardError as error:
        raise StageError(f"{error}; rerun the shard stage") from error


def _worker_counts(p: PretrainParams, gpus: int) -> list[int]:
    """Numbers of workers that can share a batch, the one to begin with first, then what a cluster may shrink to."""
    share = p.batch // p.accumulate
    most = p.workers or max(1, gpus)
    return [workers for workers in range(most, 0, -1) if share % workers == 0]


def _where(workers: int, gpus: int, plan: PretrainingPlan) -> str:
    if gpus:
        return f"training {plan.steps} steps on {workers} of {gpus} GPUs"
    ranks = "one rank" if workers == 1 else f"{workers} ranks"
    return f"no GPU here: training {plan.steps} steps on CPU, {ranks} of {plan.threads} threads"


def _explain(failure: Path, error: Exception) -> None:
    if failure.exists():
        raise StageError(json.loads(failure.read_text())["message"]) from error


class _Watch:
    """Passes new lines of the history on to the run's log."""

    def __init__(self, ctx: StageContext[PretrainParams], plan: PretrainingPlan) -> None:
        self.ctx, self.plan = ctx, plan
        self.step, self.offset = 0, 0
        self._told = ""
        self._diagnosed: set[str] = set()

    def poll(self) -> None:
        self._tell_facts()
        for line in self._new_lines():
            if line["step"] > self.step:
                self.step = line.pop("step")
                self._tell_diagnoses(line.pop("diagnoses", []))
                self.ctx.metrics(line, self.step)
                self.ctx.progress(
                    self.step, self.plan.steps, "steps", loss=line["loss"], images_per_s=line["images_per_s"]
                )
        self.ctx.check_cancelled()

    def _tell_diagnoses(self, names: list[str]) -> None:
        for name in names:
            if name not in self._diagnosed:
                self._diagnosed.add(name)
                self.ctx.note(f"{name} at step {self.step}. {REMEDIES[name]}")

    def _tell_facts(self) -> None:
        """What the ranks run on, each time that they start."""
        path = self.ctx.work / FACTS
        text = path.read_text() if path.exists() else ""
        if text and text != self._told:
            self._told = text
            facts = json.loads(text)
            measured = ", ".join(f"{seconds:.3g} s a step on {place}" for place, seconds in facts["measured"].items())
            self.ctx.note(
                f"each rank: {facts['device']}; ranks: {facts['ranks']} ({facts['parallel']}); views are made on the "
                f"{facts['views_on']}" + (f" ({measured})" if measured else "")
            )

    def _new_lines(self) -> list[dict[str, Any]]:
        path = self.ctx.work / HISTORY
        if not path.exists():
            return []
        if path.stat().st_size < self.offset:
            self.offset = 0  # a resume took back lines
        with path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def _finish(ctx: StageContext[PretrainParams], plan: PretrainingPlan, rows: int, on_gpu: bool) -> StageResult:
    lines = read_history(ctx.work / HISTORY)
    draw_curves(ctx.report / "training.png", lines)
    undecodable = json.loads((ctx.work / "config.json").read_text())["undecodable_rows"]
    if undecodable:
        ctx.note(f"{len(undecodable)} samples could not be decoded and were replaced (see config.json)")
    left_out = read_history(ctx.work / NONFINITE)
    (ctx.report / "training.html").write_text(training_page(plan, lines, left_out), encoding="utf-8")
    if left_out:
        steps = ", ".join(str(entry["step"]) for entry in left_out)
        ctx.note(f"losses or gradients were not finite at step {steps}, which was left out: see {NONFINITE}")
    shutil.rmtree(plan.checkpoints, ignore_errors=True)
    last = lines[-1] if lines else {"loss": math.nan, "feature_std": math.nan}
    speed = sum(line["images_per_s"] for line in lines) / max(1, len(lines))
    return StageResult(
        digest=None if on_gpu else files_digest(ctx.work, WEIGHTS),
        rows_in=rows,
        metrics={
            "loss": last["loss"],
            "feature_std": last["feature_std"],
            "images_per_s": speed,
            "undecodable": float(len(undecodable)),
            "left_out_steps": float(len(left_out)),
        },
        summary=f"{plan.objective['name']} on {plan.backbone['name']}: {plan.steps} steps, loss {last['loss']:.3f}",
    )
