"""The Python API, with the words of the command line: `Pipeline`, `plan`, `submit`, `Run`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import tracking
from pipelines.driver import Driver
from pipelines.errors import UsageError
from pipelines.executors.base import Executor
from pipelines.executors.local import LocalExecutor
from pipelines.executors.ray_executor import RayExecutor
from pipelines.facts import all_facts, store_lookup
from pipelines.names import nearest
from pipelines.planner import Plan, make_plan
from pipelines.references import located, pinned
from pipelines.report import write_report
from pipelines.runs import RunRecord, RunState, create_run, find_run
from pipelines.spec import Spec, load_spec
from pipelines.store import Store
from pipelines.why import why
from stages.artifact import Artifact


def open_store(url: str | Path | None = None) -> Store:
    """The store at `url`, at CURATRAIN_STORE, or `.curatrain` in the current folder."""
    return Store(url or os.environ.get("CURATRAIN_STORE") or ".curatrain")


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a result.

    local: run in this process, without Ray. address: a running Ray cluster. cpus: CPUs of an own local cluster.
    track: mirror the run to MLflow. force: stages to run although their artifact exists.
    assume_same_code: stages whose code change is declared to be without effect.
    """

    local: bool = False
    address: str | None = None
    cpus: int | None = None
    track: bool = True
    force: tuple[str, ...] = ()
    assume_same_code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A submitted run. mirror: the process that mirrors it to MLflow, where this process started one."""

    record: RunRecord
    mirror: subprocess.Popen[bytes] | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def status(self) -> str:
        """running, done, failed, cancelled or crashed."""
        return self.state().status

    def state(self) -> RunState:
        """Everything that is known of the run and its stages now."""
        return self.record.state()

    def artifact(self, stage: str) -> Artifact:
        """What a stage produced or reused. Raises UsageError where it has nothing (yet)."""
        state = self.state().stages.get(stage)
        found = self.record.store.find(state.type, state.key).artifact if state and state.key else None
        if found is None:
            raise UsageError(f"run {self.id} has no artifact of stage '{stage}'")
        return found

    def model(self, wait: float = 0.0) -> dict[str, Any] | None:
        """The registered model version of the run ({"name", "version", ...}), waiting up to `wait` seconds while
        the mirror is at work; None where there is none (yet)."""
        for stage in self.state().stages.values():
            if stage.type == "register" and stage.key:
                return tracking.await_registration(self.record.store.root, stage.key, self.mirror, wait, self.id)
        return None

    def why(self, image: str) -> list[dict[str, Any]]:
        """An image's way through every stage, from its URL to the model that was trained on it."""
        return why(self.record, image)

    def cancel(self) -> None:
        """Ask the run to stop; what is finished stays."""
        self.record.cancel_flag.touch()


class Pipeline:
    """A validated spec.

    Pipeline("quickstart"), Pipeline("my.yaml", ["curate.clusters=200"]) or Pipeline({"name": ..., "stages": ...}).
    Raises SpecError with every mistake.
    """

    def __init__(self, source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> None:
        self.spec: Spec = load_spec(source, overrides)

    def plan(self, store: str | Path | None = None, options: Options = Options()) -> Plan:
        """What a submit would do and why; starts and writes nothing."""
        opened = open_store(store)
        return _plan(located(self.spec, opened), opened, options)[0]

    def submit(
        self,
        store: str | Path | None = None,
        options: Options = Options(),
        targets: Iterable[str] = (),
        watch: Callable[[RunRecord], Callable[[], None]] | None = None,
        parent: str | None = None,
    ) -> Run:
        """Run the pipeline (or `targets` and what they read from) to the end.

        watch: given the run's record before it begins, returns what to call about five times a second.
        """
        spec = self.spec
        targets = list(targets)
        for name in (*targets, *options.force, *options.assume_same_code):
            if name not in spec.stages:
                raise UsageError(f"there is no stage '{name}' in the pipeline {spec.name}{nearest(name, spec.stages)}")
        if targets:
            spec = spec.subset(targets)
        opened = open_store(store)
        if options.track:
            tracking.tracking_uri(opened.root)  # one that cannot be used is refused before anything starts
        opened.prepare()
        named = pinned(spec, opened)
        spec = located(named, opened)
        plan_, facts, attempts = _plan(spec, opened, options)
        record = create_run(opened, named, parent)
        record.write("plan.json", json.dumps(plan_.document(), indent=1))
        mirror = None
        if options.track:
            tracking.deliver_pending(opened.root)
            mirror = tracking.start_mirror(opened.root, record.id)
        driver = Driver(
            record,
            spec,
            facts,
            plan_,
            _executor(options, opened),
            attempts,
            frozenset(options.assume_same_code),
            watch(record) if watch else lambda: None,
            partial(write_report, record),
        )
        driver.run()
        return Run(record, mirror)


def plan(
    source: str | Path | Mapping[str, Any], overrides: Iterable[str] = (), store: str | Path | None = None
) -> Plan:
    """What submitting a spec would do and why."""
    return Pipeline(source, overrides).plan(store)


def submit(
    source: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    store: str | Path | None = None,
    options: Options = Options(),
) -> Run:
    """Run a spec to the end."""
    return Pipeline(source, overrides).submit(store, options)


def open_run(name: str = "latest", store: str | Path | None = None) -> Run:
    """A run by id, by the start of one, or the latest."""
    return Run(find_run(open_store(store), name))


def _plan(spec: Spec, store: Store, options: Options) -> tuple[Plan, dict[str, Any], dict[str, int]]:
    facts = all_facts(spec)
    lookup = store_lookup(store, spec.name)
    attempts = {name: _next_attempt(store, spec.stages[name].type) for name in options.force}
    return make_plan(spec, facts, lookup, attempts, frozenset(options.assume_same_code)), facts, attempts


def _next_attempt(store: Store, type_name: str) -> int:
    return 1 + max((a.manifest["recipe"].get("attempt", 0) for a in store.artifacts(type_name)), default=0)


def _executor(options: Options, store: Store) -> Executor:
    if options.local:
        return LocalExecutor()
    return RayExecutor(store.root / "staging" / ".ray", options.address, options.cpus)
