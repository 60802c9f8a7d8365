"""The training loop that every rank runs."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.optim.optimizer import Optimizer

from training.backbones.timm_backbone import build_backbone, load_weights, save_weights
from training.checkpoints import load_newest, save_checkpoint
from training.counter_random import hash_words
from training.history import HISTORY, History, feature_spread
from training.loader import Loader
from training.norms import synchronised
from training.objectives.base import Objective, StepState, create
from training.optimisers import make_optimiser
from training.order import epoch_of
from training.plan import PretrainingPlan
from training.preprocessing import MEAN, STD, preprocessing
from training.process_group import all_reduce_mean, average_gradients, rank, world
from training.recipes import ViewRecipe
from training.schedules import cosine_with_warmup
from training.shards import ShardReader
from training.views import make_views

FAILURE = "failure.json"


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or not a number."""


def pretrain(config: dict[str, Any]) -> None:
    """Train an objective's backbone on shards, from the newest intact checkpoint of `work` on.

    config: the values of a `PretrainingPlan`. Uses the process group that is there, or trains alone. Order, views
    and masks are functions of the step, so an interrupted training ends with the weights of an uninterrupted one.
    Writes `history.jsonl` on the way; at the end `backbone.safetensors`, `heads.safetensors`, `preprocessing.json`
    and `config.json`. Raises NonFiniteLossError, or ValueError where the model cannot be built as asked; the message
    is left in `failure.json`, too.
    """
    plan = PretrainingPlan(**config)
    device = _device(plan)
    reader = ShardReader(Path(plan.shards))
    objective = _objective(plan, device)
    optimiser = make_optimiser(
        plan.optimiser,
        objective,
        lr=plan.lr,
        weight_decay=plan.weight_decay,
        momentum=plan.momentum,
        beta2=plan.beta2,
    )
    step = _resume(plan, objective, optimiser, device)
    recipe = ViewRecipe(**plan.views)
    parameters = [p for p in objective.parameters() if p.requires_grad]
    with contextlib.closing(_loader(plan, reader)) as loader, _history(plan, step) as history:
        while step < plan.steps:
            lr = cosine_with_warmup(step, plan.steps, plan.warmup, plan.lr)
            for group in optimiser.param_groups:
                group["lr"] = lr
            epoch = epoch_of(step, len(reader), plan.batch)
            batch = loader.batch(step)
            views = make_views(
                batch.canvases.to(device, non_blocking=True),
                batch.aspects,
                batch.rows,
                recipe,
                size=plan.image_size,
                mean=MEAN,
                std=STD,
                seed=plan.seed,
                epoch=epoch,
            )
            torch.manual_seed(int(hash_words(plan.seed, step, rank())[0]) >> 1)  # dropout, too, is of the step
            with _autocast(plan, device):
                losses = objective(views, StepState(step, plan.steps, epoch, plan.seed))
            losses.total.backward()
            average_gradients(parameters)
            gradient_norm = torch.nn.utils.clip_grad_norm_(parameters, plan.clip or math.inf)
            loss, stop = _agreed(losses.total, plan)
            if not math.isfinite(loss):
                _fail(plan, step, loss)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
            history.count(plan.batch)
            if rank() == 0 and (step % plan.log_every == 0 or step == plan.steps):
                spread = feature_spread(losses.features)
                terms = {name: float(value) for name, value in losses.terms.items()}
                history.line(
                    step, loss=loss, lr=lr, feature_std=spread, grad_norm=float(gradient_norm), epoch=epoch, **terms
                )
            if rank() == 0 and (stop or (step % plan.checkpoint_every == 0 and step < plan.steps)):
                save_checkpoint(plan.checkpoints, step, _state(objective, optimiser), plan.keep)
            if stop and step < plan.steps:
                return
        if rank() == 0:
            _export(plan, objective, loader.undecodable)


def _device(plan: PretrainingPlan) -> torch.device:
    if plan.threads:
        torch.set_num_threads(plan.threads)
    if plan.use_gpu and torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


def _objective(plan: PretrainingPlan, device: torch.device) -> Objective:
    try:
        backbone = build_backbone({"backbone": plan.backbone, "seed": plan.seed})
        if plan.init_from is not None:
            load_weights(backbone, Path(plan.init_from))
        objective = create(plan.objective, backbone)
    except ValueError as error:
        _record(plan, str(error))
        raise
    if world() > 1:
        synchronised(objective)
    memory = torch.contiguous_format if backbone.is_vit else torch.channels_last
    return objective.to(device, memory_format=memory).train()  # type: ignore[call-overload]


def _resume(plan: PretrainingPlan, objective: Objective, optimiser: Optimizer, device: torch.device) -> int:
    state = load_newest(plan.checkpoints, device)
    if state is None:
        return 0
    objective.load_state_dict(state["objective"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _state(objective: Objective, optimiser: Optimizer) -> dict[str, Any]:
    return {"objective": objective.state_dict(), "optimiser": optimiser.state_dict()}


def _loader(plan: PretrainingPlan, reader: ShardReader) -> Loader:
    return Loader(
        reader,
        canvas_size=plan.canvas_size,
        global_batch=plan.batch,
        seed=plan.seed,
        rank=rank(),
        world=world(),
        threads=plan.threads or 2,
        cache_bytes=plan.cache_bytes,
    )


def _history(plan: PretrainingPlan, step: int) -> contextlib.closing[History]:
    path = Path(plan.work) / (HISTORY if rank() == 0 else f".rank-{rank()}.{HISTORY}")
    return contextlib.closing(History(path, step))


def _autocast(plan: PretrainingPlan, device: torch.device) -> torch.autocast:
    half = plan.precision == "bf16" or (plan.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def _agreed(total: torch.Tensor, plan: PretrainingPlan) -> tuple[float, bool]:
    """The loss of the global batch, and whether any rank saw the wish to stop: the same answers on every rank."""
    stop = plan.stop_file is not None and Path(plan.stop_file).exists()
    both = all_reduce_mean(torch.stack([total.detach().float(), total.new_tensor(float(stop), dtype=torch.float32)]))
    return float(both[0]), bool(both[1] > 0)


def _fail(plan: PretrainingPlan, step: int, loss: float) -> None:
    message = (
        f"the loss became {loss} at step {step + 1}: try a lower lr, a longer warmup, or a limit on the gradient norm "
        "(clip: 1.0)"
    )
    _record(plan, message)
    raise NonFiniteLossError(message)


def _record(plan: PretrainingPlan, message: str) -> None:
    """Leave what went wrong for whoever started the training, since ranks may be processes on other machines."""
    if rank() == 0:
        (Path(plan.work) / FAILURE).write_text(json.dumps({"message": message}))


def _export(plan: PretrainingPlan, objective: Objective, undecodable: dict[int, str]) -> None:
    """Write the final files, each committed by rename, the weights last."""
    backbone: Any = objective.backbone
    config = {
        "backbone": plan.backbone,
        "image_size": plan.image_size,
        "dim": backbone.dim,
        "objective": plan.objective,
        "views": plan.views,
        "steps": plan.steps,
        "batch": plan.batch,
        "seed": plan.seed,
        "init_from": plan.init_from,
        "undecodable_rows": {str(row): undecodable[row] for row in sorted(undecodable)},
    }
    work = Path(plan.work)
    for name, value in (("config.json", config), ("preprocessing.json", preprocessing(plan.image_size))):
        temporary = work / f".{name}.tmp"
        temporary.write_text(json.dumps(value, indent=1) + "\n")
        temporary.replace(work / name)
    heads = {name: value.detach().cpu().contiguous() for name, value in objective.heads().items()}
    save_file(heads, work / ".heads.tmp")
    (work / ".heads.tmp").replace(work / "heads.safetensors")
    save_weights(backbone, work / ".backbone.tmp")
    (work / ".backbone.tmp").replace(work / "backbone.safetensors")
