"""One training: from parameters to a plan, watched while it runs, checked and reported when it ends."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from stages.base import StageContext, StageError, StageResult
from stages.pretrain import PretrainParams
from stages.pretrain.report import draw_curves, draw_views
from stages.tables import files_digest
from training.backbones.timm_backbone import timm_arguments
from training.history import HISTORY, read_history
from training.loop import FAILURE, pretrain
from training.objectives import catalogue
from training.order import steps_per_epoch
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe
from training.shards import ShardError, ShardReader

WEIGHTS = ["backbone.safetensors", "heads.safetensors"]
_DEFAULT_EPOCHS = 100


def train_backbone(ctx: StageContext[PretrainParams]) -> StageResult:
    """Train, or go on training, into `ctx.work`."""
    reader = _reader(ctx)
    gpus = ctx.compute.gpus()
    workers = ctx.params.workers or _dividing(ctx.params.batch, max(1, gpus))
    plan = make_plan(ctx, reader, workers, use_gpu=gpus > 0)
    ctx.note(_where(workers, gpus, plan))
    draw_views(ctx.report / "views.png", reader, plan)
    (ctx.work / FAILURE).unlink(missing_ok=True)
    watch = _Watch(ctx, plan)
    try:
        ctx.compute.train(pretrain, plan.to_dict(), workers=workers, use_gpu=gpus > 0, on_poll=watch.poll)
    except Exception as error:
        _explain(ctx.work / FAILURE, error)
        raise
    if not (ctx.work / WEIGHTS[0]).exists():
        ctx.check_cancelled()
        raise StageError("the training ended before its last step: submit again, it goes on from its last checkpoint")
    return _finish(ctx, plan, rows=len(reader), on_gpu=gpus > 0)


def make_plan(ctx: StageContext[PretrainParams], reader: ShardReader, workers: int, use_gpu: bool) -> PretrainingPlan:
    """The plan that every rank gets. Raises StageError where the shards are too few for the batch."""
    p = ctx.params
    if len(reader) < p.batch:
        fitting = 2 ** int(math.log2(max(2, len(reader))))
        raise StageError(
            f"the shards hold {len(reader)} images, fewer than one batch of {p.batch}: set batch to {fitting} or "
            "less, or let curate keep more images"
        )
    views = {**catalogue.describe(p.objective["name"])["views"], **p.views.model_dump()}
    steps = p.steps or (p.epochs or _DEFAULT_EPOCHS) * steps_per_epoch(len(reader), p.batch)
    return PretrainingPlan(
        shards=str(reader.folder),
        work=str(ctx.work),
        objective=p.objective,
        backbone={"name": p.backbone, "kwargs": timm_arguments(p.backbone, p.backbone_options, p.image_size)},
        image_size=p.image_size,
        canvas_size=p.source_size or 2 * p.image_size,
        views=ViewRecipe(**views).to_dict(),
        steps=steps,
        batch=p.batch,
        optimiser=p.optimiser,
        lr=p.lr,
        weight_decay=p.weight_decay,
        momentum=p.momentum,
        beta2=p.beta2,
        warmup=round(p.warmup * steps),
        clip=p.clip,
        seed=p.seed,
        init_from=p.init_from,
        precision=p.precision,
        use_gpu=use_gpu,
        threads=p.threads or max(1, ctx.compute.cpus() // workers),
        cache_bytes=p.cache_mb << 20,
        checkpoint_every=p.checkpoint_every,
        log_every=p.log_every,
        stop_file=str(ctx.cancel_flag) if ctx.cancel_flag is not None else None,
    )


def _reader(ctx: StageContext[PretrainParams]) -> ShardReader:
    try:
        return ShardReader(ctx.inputs["shards"].path / "shards")
    except ShardError as error:
        raise StageError(f"{error}; rerun the shard stage") from error


def _dividing(batch: int, most: int) -> int:
    return next(workers for workers in range(most, 0, -1) if batch % workers == 0)


def _where(workers: int, gpus: int, plan: PretrainingPlan) -> str:
    if gpus:
        precision = "fp32" if plan.precision == "fp32" else "bf16"
        return f"training {plan.steps} steps on {workers} of {gpus} GPUs in {precision}"
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

    def poll(self) -> None:
        for line in self._new_lines():
            if line["step"] > self.step:
                self.step = line.pop("step")
                self.ctx.metrics(line, self.step)
                self.ctx.progress(
                    self.step, self.plan.steps, "steps", loss=line["loss"], images_per_s=line["images_per_s"]
                )
        self.ctx.check_cancelled()

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
    shutil.rmtree(plan.checkpoints, ignore_errors=True)
    for leftover in ctx.work.glob(f".rank-*.{HISTORY}"):
        leftover.unlink()
    last = lines[-1]
    speed = sum(line["images_per_s"] for line in lines) / len(lines)
    return StageResult(
        digest=None if on_gpu else files_digest(ctx.work, WEIGHTS),
        rows_in=rows,
        metrics={
            "loss": last["loss"],
            "feature_std": last["feature_std"],
            "images_per_s": speed,
            "undecodable": float(len(undecodable)),
        },
        summary=f"{plan.objective['name']} on {plan.backbone['name']}: {plan.steps} steps, loss {last['loss']:.3f}",
    )
