"""The loop of a run: start each stage when its inputs are committed, until nothing can go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines import events
from pipelines.executors.base import Executor
from pipelines.facts import store_lookup
from pipelines.planner import BLOCKED, Facts, Plan, Step, plan_stage
from pipelines.runs import RunRecord
from pipelines.spec import Spec
from pipelines.step import Order, Outcome
from stages.artifact import Artifact
from stages.base import Resources

SILENCE = 30.0
"""Seconds without a first sign of work from a stage after which the run says what it may be waiting for."""

LONG_SILENCE = 300.0
"""The same for a stage that has made progress before."""

GRACE = 20.0
"""Seconds that a cancelled stage has to stop by itself."""


@dataclass
class Driver:
    """Drives one run.

    tick: called about five times a second, for the display. closing: called with the run's status before its end is
    told, so that whoever waits for that end finds the report.
    """

    record: RunRecord
    spec: Spec
    facts: Mapping[str, Facts]
    plan: Plan
    executor: Executor
    attempts: Mapping[str, int] = field(default_factory=dict)
    assume_same_code: frozenset[str] = frozenset()
    tick: Callable[[], None] = lambda: None
    closing: Callable[[str], None] = lambda _status: None

    def __post_init__(self) -> None:
        self._log = self.record.log
        self._artifacts: dict[str, Artifact] = {}
        self._orders: dict[str, Order] = {}
        self._bad: dict[str, str] = {}
        self._started = False
        self._heard: dict[str, float] = {}
        self._at_work: set[str] = set()
        self._offset = 0
        self._cancelled_at = 0.0
        self._lookup = store_lookup(self.record.store, self.spec.name)

    def run(self) -> str:
        """Run to the end; returns the run's status: done, failed or cancelled."""
        self._log.append(events.RUN_STARTED, run=self.record.id, pipeline=self.spec.name)
        try:
            waiting = list(self.spec.stages)
            while waiting or self._orders:
                waiting = [name for name in waiting if not self._advance(name)]
                if self._orders:
                    for name, outcome in self.executor.finished(0.2):
                        self._settle(name, outcome)
                    self._watch()
                self.tick()
        finally:
            if self._started:
                self.executor.close()
        status = self._status()
        self.closing(status)
        self._log.append(events.RUN_FINISHED, status=status)
        self.tick()
        return status

    def _status(self) -> str:
        if not self._bad:
            return "done"
        return "cancelled" if self.record.cancel_flag.exists() else "failed"

    def _advance(self, name: str) -> bool:
        """Reuse, start or give up a stage; False while it has to wait for its inputs."""
        stage = self.spec.stages[name]
        broken = sorted({s for s in stage.inputs.values() if s in self._bad})
        if broken:
            self._give_up(name, f"waits for {' and '.join(broken)}")
            return True
        if self.record.cancel_flag.exists():
            self._give_up(name, "the run was cancelled before it began")
            return True
        if any(source not in self._artifacts for source in stage.inputs.values()):
            return False
        digests = {i: self._artifacts[s].digest for i, s in stage.inputs.items()}
        attempt = self.attempts.get(name, 0)
        step = plan_stage(stage, digests, self.facts[name], self._lookup, attempt, name in self.assume_same_code)
        if step.action == BLOCKED:
            self._give_up(name, step.why)
        elif step.artifact is not None:
            self._finish(name, step.artifact, "reused", Outcome.of(step.artifact, "reused"))
        elif self._has_to_wait(stage.stage.resources()):
            return False
        else:
            self._begin(name, step)
        return True

    def _has_to_wait(self, wanted: Resources) -> bool:
        """Whether a stage's workers would have to wait for those of running stages, which Ray Train gives up at."""
        running = [self.spec.stages[name].stage.resources() for name in self._orders]
        holders = [resources for resources in running if resources.cpus]
        if not wanted.cpus or not holders:
            return False
        if any(resources.exclusive for resources in (wanted, *holders)):
            return True
        capacity = self.executor.capacity()
        most = capacity.get("GPU", 0) or capacity.get("CPU", 0)  # a rank holds a GPU where there are any
        return wanted.cpus + sum(resources.cpus for resources in holders) > most

    def _begin(self, name: str, step: Step) -> None:
        stage = self.spec.stages[name]
        if not self._started:
            self._log.append(events.NOTE, name, text=self.executor.greeting)
            self.tick()
            self.executor.start()
            self._started = True
        wanted, capacity = stage.stage.resources(), self.executor.capacity()
        for label, amount in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
            if amount > capacity.get(label, 0):
                have = capacity.get(label, 0)
                self._give_up(name, f"asks for {amount:g} {label}, there are {have:g}: set {name}.workers lower")
                return
        assert step.key is not None and step.family is not None and step.recipe is not None
        order = Order(
            store=str(self.record.store.root),
            run=self.record.id,
            stage=name,
            type=stage.type,
            params=stage.stage.params.model_dump(mode="json"),
            key=step.key,
            family=step.family,
            recipe=step.recipe,
            inputs={i: (self._artifacts[s].stage, self._artifacts[s].key) for i, s in stage.inputs.items()},
            waived_code=step.waived_code,
        )
        self._orders[name] = order
        self._heard[name] = time.monotonic()
        self.executor.submit(order)

    def _settle(self, name: str, outcome: Outcome) -> None:
        order = self._orders.pop(name)
        if outcome.status in ("run", "reused"):
            artifact = self.record.store.find(order.type, order.key).artifact
            if artifact is not None:
                self._finish(name, artifact, outcome.status, outcome)
                return
            outcome = Outcome("failed", f"its artifact {order.type}/{order.key[:12]} is gone from the store")
        self._bad[name] = outcome.error
        self._log.append(events.STAGE_FAILED, name, error=outcome.error, cancelled=outcome.status == "cancelled")

    def _finish(self, name: str, artifact: Artifact, action: str, outcome: Outcome) -> None:
        self._artifacts[name] = artifact
        keys = {n: a.key for n, a in self._artifacts.items()}
        self.record.write("keys.json", json.dumps(keys, indent=1))
        fields: dict[str, Any] = {
            "action": action,
            "type": artifact.stage,
            "key": artifact.key,
            "digest": artifact.digest,
            "seconds": outcome.seconds,
            "rows_in": outcome.rows_in,
            "rows_out": outcome.rows_out,
            "metrics": dict(outcome.metrics),
            "summary": outcome.summary,
            "artifact": f"objects/{artifact.stage}/{artifact.key}",
        }
        self._log.append(events.STAGE_FINISHED, name, **fields)

    def _give_up(self, name: str, error: str) -> None:
        self._bad[name] = error
        self._log.append(events.STAGE_BLOCKED, name, error=error)

    def _watch(self) -> None:
        """Say what a silent stage may wait for, and end what does not stop when cancelled."""
        now = time.monotonic()
        for offset, event in self._log.read(self._offset):
            self._offset = offset
            if event["stage"] in self._heard:
                self._heard[event["stage"]] = now
                if event["kind"] == events.PROGRESS:
                    self._at_work.add(event["stage"])
        for name in self._orders:
            patience = LONG_SILENCE if name in self._at_work else SILENCE
            if self.executor.queued(name):
                self._heard[name] = now
            elif now - self._heard[name] > patience:
                self._heard[name] = now
                free, all_ = self.executor.free(), self.executor.capacity()
                spare = ", ".join(f"{free[r]:g} of {n:g} {r}" for r, n in all_.items() if n and r in free)
                text = f"nothing heard for {patience:g} s" + (f"; free now: {spare}" if spare else "")
                self._log.append(events.NOTE, name, text=text)
        if self.record.cancel_flag.exists():
            self._cancelled_at = self._cancelled_at or now
            if now - self._cancelled_at > GRACE:
                for name in self._orders:
                    self.executor.stop(name)
