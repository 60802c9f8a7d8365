"""Run records: one folder for each submission, and the state that its events add up to."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipelines import events
from pipelines.errors import UsageError
from pipelines.events import EventLog
from pipelines.spec import Spec
from pipelines.store import Store


@dataclass
class StageState:
    """What is known of a stage of a run.

    state: waiting | running | reused | done | failed | blocked | cancelled.
    """

    name: str
    type: str
    state: str = "waiting"
    key: str = ""
    digest: str = ""
    seconds: float = 0.0
    rows_in: int | None = None
    rows_out: int | None = None
    summary: str = ""
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    done: float = 0
    total: float | None = None
    unit: str = ""
    live: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class RunState:
    """The fold of a run's events. status: running | done | failed | cancelled | crashed."""

    status: str
    stages: dict[str, StageState]
    offset: int = 0

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event into account."""
        kind = event["kind"]
        if kind == events.RUN_FINISHED:
            self.status = event["status"]
            for stage in self.stages.values():
                if stage.state == "running":
                    stage.state = "cancelled"
        stage_name = event.get("stage")
        if stage_name not in self.stages:
            return
        stage = self.stages[stage_name]
        if kind == events.STAGE_STARTED:
            stage.state, stage.key = "running", event["key"]
        elif kind == events.PROGRESS:
            stage.done, stage.total, stage.unit, stage.live = (event[n] for n in ("done", "total", "unit", "live"))
        elif kind == events.NOTE:
            stage.notes.append(event["text"])
        elif kind == events.STAGE_FINISHED:
            stage.state = "reused" if event["action"] == "reused" else "done"
            for name in ("key", "digest", "seconds", "rows_in", "rows_out", "summary", "metrics"):
                setattr(stage, name, event[name])
        elif kind in (events.STAGE_FAILED, events.STAGE_BLOCKED):
            failed = "cancelled" if event.get("cancelled") else "failed"
            stage.state = failed if kind == events.STAGE_FAILED else "blocked"
            stage.error = event["error"]


@dataclass(frozen=True)
class RunRecord:
    """One submission's folder."""

    store: Store
    id: str

    @property
    def path(self) -> Path:
        return self.store.root / "runs" / self.id

    @property
    def log(self) -> EventLog:
        return EventLog(self.path / "events.jsonl")

    @property
    def cancel_flag(self) -> Path:
        return self.path / "cancel"

    def head(self) -> dict[str, Any]:
        """`run.json`: id, pipeline, created, pid, host, boot_id, parent."""
        return json.loads((self.path / "run.json").read_text())

    def spec_document(self) -> dict[str, Any]:
        """The resolved spec that was submitted."""
        return yaml.safe_load((self.path / "spec.yaml").read_text())

    def write(self, name: str, text: str) -> None:
        """Write a file of the record whole or not at all."""
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(text)
        temporary.replace(self.path / name)

    def state(self) -> RunState:
        """The state of the run now; `crashed` where its process is gone without a word."""
        stages = self.spec_document()["stages"]
        state = RunState("running", {name: StageState(name, body["uses"]) for name, body in stages.items()})
        for offset, event in self.log.read():
            state.offset = offset
            state.apply(event)
        if state.status == "running" and not self.alive():
            state.status = "crashed"
        return state

    def alive(self) -> bool:
        """Whether the process that drives the run lives. A run of another host is taken at its word."""
        head = self.head()
        if head["host"] != socket.gethostname():
            return True
        return head["boot_id"] == boot_id() and process_start(head["pid"]) == head["pid_start"]


def create_run(store: Store, spec: Spec, parent: str | None = None) -> RunRecord:
    """Make the folder of a new run under an id that no other run has."""
    while True:
        run_id = f"{spec.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        record = RunRecord(store, run_id)
        try:
            record.path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    (record.path / "logs").mkdir()
    record.write("spec.yaml", yaml.safe_dump(spec.document(), sort_keys=False, allow_unicode=True))
    head = {
        "id": run_id,
        "pipeline": spec.name,
        "created": datetime.now(UTC).isoformat(),
        "pid": os.getpid(),
        "pid_start": process_start(os.getpid()),
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "parent": parent,
    }
    record.write("run.json", json.dumps(head, indent=1))
    return record


def list_runs(store: Store) -> Iterator[RunRecord]:
    """Every run of the store, newest first."""
    heads = []
    for path in (store.root / "runs").glob("*/run.json"):
        try:
            heads.append((json.loads(path.read_text())["created"], path.parent.name))
        except (OSError, ValueError, KeyError):
            continue
    for _, run_id in sorted(heads, reverse=True):
        yield RunRecord(store, run_id)


def find_run(store: Store, name: str) -> RunRecord:
    """The run of an id, of the start of one, or `latest`. Raises UsageError where none or several match."""
    runs = list(list_runs(store))
    if not runs:
        raise UsageError(f"there are no runs in {store.root}; `curatrain submit quickstart` makes one")
    if name == "latest":
        return runs[0]
    exact = [run for run in runs if run.id == name]
    matches = exact or [run for run in runs if run.id.startswith(name)]
    if len(matches) != 1:
        found = "no run" if not matches else f"{len(matches)} runs"
        raise UsageError(f"{found} in {store.root} named '{name}'; see `curatrain runs` (or say 'latest')")
    return matches[0]


@cache
def boot_id() -> str:
    """What tells this boot of the machine from another, or "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_start(pid: int) -> float | None:
    """When a process started, so that a recycled pid is not taken for it; None where there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
