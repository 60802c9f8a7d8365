"""From the stage's parameters to the plan that every rank gets."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from stages.base import StageContext, StageError
from stages.pretrain import PretrainParams
from training.backbones.building import backbone_config
from training.backbones.first_weights import LIBRARY
from training.backbones.names import is_vit, patch_size
from training.objectives import catalogue
from training.order import steps_per_epoch
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe, local_side
from training.schedules import scaled_lr
from training.shards import ShardReader

_DEFAULT_EPOCHS = 100


def make_plan(ctx: StageContext[PretrainParams], reader: ShardReader, workers: int, use_gpu: bool) -> PretrainingPlan:
    """The plan that every rank gets. Raises StageError where the shards are too few for the batch."""
    p = ctx.params
    if len(reader) < p.batch:
        fitting = 2 ** int(math.log2(max(2, len(reader))))
        raise StageError(
            f"the shards hold {len(reader)} images, fewer than one batch of {p.batch}: set batch to {fitting} or "
            "less, or let curate keep more images"
        )
    steps = p.steps or (p.epochs or _DEFAULT_EPOCHS) * steps_per_epoch(len(reader), p.batch)
    return PretrainingPlan(
        shards=str(reader.folder),
        work=str(ctx.work),
        objective=p.objective,
        backbone=backbone_config(p.backbone, p.backbone_options, p.image_size, first_weights(p)),
        image_size=p.image_size,
        canvas_size=p.source_size or 2 * p.image_size,
        views=_views(p),
        steps=steps,
        batch=p.batch,
        rows=len(reader),
        sampling=p.sampling.model_dump(),
        accumulate=p.accumulate,
        optimiser=p.optimiser,
        momentum=p.momentum,
        beta2=p.beta2,
        critical_gradients=p.critical_gradients,
        critical_decay=p.critical_decay,
        layer_decay=p.layer_decay,
        patch_embed_lr=p.patch_embed_lr,
        clip=p.clip,
        clip_by=p.clip_by,
        **_rates(p, steps),
        seed=p.seed,
        init_from=_start(ctx),
        precision=p.precision,
        use_gpu=use_gpu,
        parallel=p.parallel,
        compile=p.compile,
        recompute=p.recompute,
        augment_on=p.augment_on,
        threads=p.threads or max(1, ctx.compute.cpus() // workers),
        cache_bytes=p.cache_mb << 20,
        checkpoint_every=p.checkpoint_every,
        log_every=p.log_every,
        keep_last=p.keep_last,
        keep_best=int(p.keep_best),
        best_by=p.best_by,
        evaluate_every=p.evaluate_every,
        stop_file=str(ctx.cancel_flag) if ctx.cancel_flag is not None else None,
    )


def first_weights(p: PretrainParams) -> str:
    """What a vision transformer starts from: by the objective's paper, in a sum by its first term whose paper says."""
    if p.first_weights != "auto":
        return p.first_weights
    named = [catalogue.describe(name)["first_weights"] for name in catalogue.parts(p.objective)]
    return next((name for name in named if name != LIBRARY), LIBRARY)


def _views(p: PretrainParams) -> dict[str, Any]:
    """The full recipe, with the side of local crops settled."""
    recipe = ViewRecipe(**p.views.model_dump(exclude={"recipe"}))
    if recipe.local_crops and not recipe.local_size:
        patch = p.backbone_options.get("patch_size", patch_size(p.backbone)) if is_vit(p.backbone) else 1
        recipe = replace(recipe, local_size=local_side(p.image_size, patch if isinstance(patch, int) else 1))
    return recipe.to_dict()


def _rates(p: PretrainParams, steps: int) -> dict[str, Any]:
    """Learning rate and weight decay, and their courses."""
    peak, course = scaled_lr(p.lr, p.batch, p.lr_schedule.scale_with_batch), p.lr_schedule
    ending = {"name": "cosine", "end": p.weight_decay_end} if p.weight_decay_end is not None else {}
    return {
        "lr": peak,
        "warmup": round(p.warmup * steps),
        "lr_schedule": {
            "name": course.course,
            "end": course.end * peak,
            "cooldown": min(course.cooldown, 1 - p.warmup),
            "cooldown_shape": course.cooldown_shape,
        },
        "weight_decay": p.weight_decay,
        "weight_decay_schedule": ending,
    }


def _start(ctx: StageContext[PretrainParams]) -> str | None:
    """Where the first weights come from: the connected model, or the parameter."""
    if "init" not in ctx.inputs:
        return ctx.params.init_from
    if ctx.params.init_from is not None:
        raise StageError("the input init and the parameter init_from both name weights to start from: leave one out")
    return str(ctx.inputs["init"].path)
