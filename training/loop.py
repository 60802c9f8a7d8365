"""The training loop that every rank runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.assembly import assembled_loader, assembled_objective
from training.checkpoints import CheckpointError, Checkpoints, TrainingState, best_step
from training.collapse import Setting
from training.counter_random import hash_words
from training.device import described, number_format, peak_memory_gb, training_device
from training.duplicates import duplicate_groups
from training.export import export, export_checkpoint
from training.feature_queue import FeatureQueue
from training.feed import Feed, faster_place
from training.figures import Agreed, Figures
from training.garbage import collected_every
from training.history import HISTORY, History, feature_rank, feature_spread
from training.nonfinite import GoBack, LeftOut, culprits
from training.objectives.base import Losses, StepState
from training.online import FeatureLook
from training.optimisers import clip_gradients, clipped_parts, make_optimiser, set_rates
from training.parallel import Parallel, restore, snapshot
from training.plan import PretrainingPlan
from training.precision import Precision
from training.process_group import rank, world
from training.reweighing import reweigh, reweighs
from training.schedules import Schedule
from training.shards import ShardReader

FAILURE = "failure.json"
FACTS = "training.json"
BEST = "best"
_COLLECT_EVERY = 150
_ROW_WEIGHTS = "row_weights/"
_WORTH_MEASURING = 1000
"""Steps that must lie ahead for the twenty of a measurement to be less than 2 % of them."""


def pretrain(config: dict[str, Any]) -> None:
    """Train an objective's backbone on shards, from the newest intact checkpoint of `work` on.

    config: the values of a `PretrainingPlan`. Uses the process group that is there, or trains alone. Order, views
    and masks are functions of the step, so an interrupted training ends with the weights of an uninterrupted one, on
    whatever number of ranks each part ran. Writes `history.jsonl` on the way, and the exported files at the end.
    Raises NonFiniteError where losses stay broken (see `training.nonfinite`), or ValueError where the model cannot be
    built as asked; the message is left in `failure.json`, too.
    """
    plan = PretrainingPlan(**config)
    try:
        left_out = LeftOut(Path(plan.work))
        while True:
            try:
                with contextlib.closing(Training(plan, left_out)) as training:
                    training.run()
                return
            except GoBack as found:
                left_out.add(found.step)
    except (ValueError, ArithmeticError, CheckpointError) as error:
        remedy = (
            ": make room or mend the permissions, then submit again" if isinstance(error.__cause__, OSError) else ""
        )
        if rank() == 0:  # ranks may be processes on other machines than whoever started the training
            (Path(plan.work) / FAILURE).write_text(json.dumps({"message": f"{error}{remedy}"}))
        raise


class Training:
    """One attempt: from the newest checkpoint to the last step, a wish to stop, or a step that is not finite."""

    def __init__(self, plan: PretrainingPlan, left_out: LeftOut) -> None:
        self.plan, self.left_out = plan, left_out
        self.device = training_device(plan.use_gpu, plan.threads)
        self.precision = Precision(number_format(plan.precision, self.device), self.device)
        self.objective = assembled_objective(plan, self.device)
        self.parallel = Parallel(self.objective, plan.parallel, self.device, self.precision.dtype)
        self.reader = ShardReader(plan.shards)
        self.loader = assembled_loader(plan, self.reader, self.device)
        duplicates = duplicate_groups(self.reader) if self.objective.spares_duplicates() else None
        self.feed = Feed(self.loader, plan, self.device, duplicates)
        self.feed.across_epochs = not reweighs(self.objective)
        self.lr = Schedule(**{"warmup_steps": plan.warmup, **plan.lr_schedule, "peak": plan.lr})
        self.weight_decay = Schedule(**{"name": "constant", **plan.weight_decay_schedule, "peak": plan.weight_decay})
        self.optimiser = make_optimiser(
            plan.optimiser,
            self.objective,
            lr=plan.lr,
            weight_decay=plan.weight_decay,
            momentum=plan.momentum,
            beta2=plan.beta2,
            critical_gradients=plan.critical_gradients,
            critical_decay=plan.critical_decay,
            layer_decay=plan.layer_decay,
            patch_embed_lr=plan.patch_embed_lr,
            frozen=self.objective.frozen(self.feed.steps_per_epoch),
        )
        self.parts = clipped_parts(self.objective, by_part=True)
        self.clipped = clipped_parts(self.objective, by_part=plan.clip_by == "module")
        self.checkpoints = Checkpoints(
            plan.checkpoints,
            keep_last=plan.keep_last,
            keep_best=plan.keep_best,
            metric=plan.best_by,
            higher_is_better="loss" not in plan.best_by,
        )
        self.state = TrainingState(self.objective, self.optimiser)
        self.figures = Figures()
        self.look = FeatureLook(self.reader, plan) if plan.evaluate_every else None

    def run(self) -> None:
        plan = self.plan
        restored = self.checkpoints.restore(self.state)
        start = restored.step if restored is not None else 0
        if restored is not None:
            self.precision.load_state_dict(self.state.values["precision"])
            weights = {name.removeprefix(_ROW_WEIGHTS): value for name, value in self.state.tensors.items()}
            self.loader.load_state_dict({**self.state.values["loader"], "weights": weights})
        self._settle_augmentation(start)
        with self._history(start) as history, collected_every(_COLLECT_EVERY) as collect:
            for step in range(start, plan.steps):
                done = step + 1
                agreed = self._take(step)
                collect(done)
                if history is not None and agreed is not None and "lr" in agreed.latest and self._logged(done):
                    history.line(done, waited=self.feed.waited, **agreed.latest)
                if not self.feed.across_epochs and done < plan.steps and self.feed.epoch(done) > self.feed.epoch(step):
                    reweigh(self.objective, self.loader, self.feed.epoch(done))
                stop = agreed is not None and agreed.stop and done < plan.steps
                if stop or self._saved(done):
                    self._save(done, agreed)
                if stop:
                    return
        export(Path(plan.work), self.objective, plan, undecodable=self.loader.undecodable)
        if plan.keep_best:
            self.checkpoints.wait()
            best = best_step(plan.checkpoints, self.checkpoints.retention)
            if best is not None and rank() == 0:
                export_checkpoint(Path(plan.work), Path(plan.work) / BEST, best)

    def _take(self, step: int) -> Agreed | None:
        """One step. Returns what the ranks agreed on, or None where the host did not wait for their figures."""
        state, left_out = self._state(step), step in self.left_out
        further: dict[str, Tensor] = {}
        if left_out:
            self._examine(state)
        else:
            loss, further = self._gradients(state, self._logged(step + 1))
            self.precision.scale_down(self.objective)
            if self._logged(step + 1):
                norms = clip_gradients(self.parts, 0)
                further.update({f"grad_norm/{part}": norm for part, norm in norms.items() if part != "total"})
            norm = clip_gradients(self.clipped, self.plan.clip)["total"]
            self.figures.add(step, loss, norm)
        agreed, finite = None, True
        if self._speaks_each_step or self._logged(step + 1) or self._saved(step + 1):
            agreed = self.figures.settle(further, stop=self._stop_wanted())
            finite = agreed.bad_step is None
            if agreed.bad_step is not None and not self.precision.absorbs(agreed.latest["loss"]):
                raise GoBack(agreed.bad_step)
        if not left_out:
            rates = self._update(state, finite)
            if agreed is not None:
                agreed.latest.update(**rates, epoch=state.epoch, memory_gb=peak_memory_gb(self.device))
                agreed.latest.update({"loss_scale": self.precision.scale} if self.precision.scaled else {})
                if self.look is not None and self._looked(step + 1):
                    backbone = self.objective.export_backbone()
                    agreed.latest.update(self.look.figures(backbone, self.objective, self.precision))
        return agreed

    def _update(self, state: StepState, finite: bool) -> dict[str, float]:
        """Let the optimiser use the gradients, if they are finite; returns its rates."""
        lr, weight_decay = (schedule.at(state.step, state.steps) for schedule in (self.lr, self.weight_decay))
        self.precision.settle(finite)
        if finite:
            set_rates(self.optimiser, state.step, lr=lr, weight_decay=weight_decay)
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if finite:
            with torch.no_grad():
                self.objective.after_step(state)
        return {"lr": lr, "weight_decay": weight_decay}

    def _gradients(self, state: StepState, logged: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward over the step's micro-batches: the loss, and further scalars where it is logged."""
        totals: list[Tensor] = []
        terms: dict[str, list[Tensor]] = {}
        for losses in self._passes(state, sync=True):
            totals.append(losses.total.detach())
            if logged:
                for name, value in self._sentinels(losses).items():
                    terms.setdefault(name, []).append(value.detach())
        self.parallel.reduce_gradients()
        return _mean(totals), {name: _mean(values) for name, values in terms.items()}

    def _sentinels(self, losses: Losses) -> dict[str, Tensor]:
        features = losses.features
        return {"feature_std": feature_spread(features), "feature_rank": feature_rank(features), **losses.terms}

    def _passes(self, state: StepState, sync: bool) -> Iterator[Losses]:
        """Forward and backward of each micro-batch."""
        parts = self.plan.accumulate
        for part, views in enumerate(self.feed.views(state.step, state.epoch)):
            # dropout, too, is of the step
            torch.manual_seed(int(hash_words(self.plan.seed, state.step, rank(), part)[0]) >> 1)
            with self.parallel.backward_pass(last=sync and part == parts - 1):
                with self.precision.autocast():
                    losses = self.parallel.module(views, state)
                self.precision.scale_up(losses.total / parts).backward()
            yield losses

    def _state(self, step: int) -> StepState:
        return StepState(step, self.plan.steps, self.feed.epoch(step), self.plan.seed)

    def _logged(self, done: int) -> bool:
        return done % self.plan.log_every == 0 or done == self.plan.steps or self._looked(done)

    def _looked(self, done: int) -> bool:
        return self.look is not None and (done % self.plan.evaluate_every == 0 or done == self.plan.steps)

    def _saved(self, done: int) -> bool:
        if self.plan.keep_best and (self._looked(done) or done == self.plan.steps):
            return True
        return done % self.plan.checkpoint_every == 0 and done < self.plan.steps

    @property
    def _speaks_each_step(self) -> bool:
        """On a GPU the host would have to wait for it; there a bad step may be found a few steps late."""
        return self.device.type == "cpu" or self.precision.scaled

    def _stop_wanted(self) -> bool:
        return self.plan.stop_file is not None and Path(self.plan.stop_file).exists()

    def _save(self, done: int, agreed: Agreed | None) -> None:
        loader = self.loader.state_dict()
        self.state.tensors = {_ROW_WEIGHTS + epoch: value for epoch, value in loader.pop("weights").items()}
        self.state.values.update(plan=self.plan.to_dict(), precision=self.precision.state_dict(), loader=loader)
        self.checkpoints.save(done, self.state, agreed.latest if agreed is not None else None)

    def _examine(self, state: StepState) -> None:
        """Find what is not finite at a step that is left out, and change nothing."""
        if self.left_out.examined(state.step):
            return
        saved = snapshot(self.objective)

        def losses() -> dict[str, Tensor]:
            passes = list(self._passes(state, sync=self.parallel.kind != "ddp"))
            return {"total": torch.stack([each.total for each in passes]), **passes[-1].terms}

        names = culprits(self.objective, losses)
        rows = self.loader.batch(state.step).rows.tolist()
        ids = [self.reader.sample(row)["image_id"] for row in rows]
        mine = {"rank": rank(), "rows": rows, "image_ids": ids, "tensors": names} if names else None
        restore(self.objective, saved)
        self.optimiser.zero_grad(set_to_none=True)
        self.left_out.examine(state.step, mine)

    def _settle_augmentation(self, start: int) -> None:
        """Make views where it is faster, and write down what this training runs on."""
        plan = self.plan
        seconds: dict[str, float] = {}
        if plan.augment_on != "auto":
            self.feed.augment_on = plan.augment_on
        elif plan.steps - start >= _WORTH_MEASURING:
            saved = snapshot(self.objective)

            def discarded(step: int) -> None:
                self._gradients(self._state(step), logged=False)
                self.optimiser.zero_grad(set_to_none=True)

            self.feed.augment_on, seconds = faster_place(self.feed, discarded, start, self.device)
            restore(self.objective, saved)
        facts = {
            "device": described(self.device, plan.precision),
            "ranks": world(),
            "parallel": self.parallel.kind,
            "views_on": self.feed.augment_on,
            "measured": seconds,
            "resumed_at": start,
        }
        if rank() == 0:
            (Path(plan.work) / FACTS).write_text(json.dumps(facts))

    def _history(self, step: int) -> contextlib.AbstractContextManager[History | None]:
        """The log of this training, on the rank that writes it."""
        if rank() != 0:
            return contextlib.nullcontext()
        plan = self.plan
        setting = Setting(
            steps=plan.steps,
            blind_loss=self.objective.blind_loss(plan.batch // plan.accumulate),
            frozen={name.strip("."): n for name, n in self.objective.frozen(self.feed.steps_per_epoch).items()},
            queue=max((len(m.features) for m in self.objective.modules() if isinstance(m, FeatureQueue)), default=0),
            rows=len(self.reader),
        )
        return contextlib.closing(History(Path(plan.work) / HISTORY, step, plan.batch, setting))

    def close(self) -> None:
        self.checkpoints.close()
        self.feed.close()
        self.loader.close()


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()
