"""A store with one run, written by hand: the files and events that a driver leaves behind, without its work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from pipelines.events import EventLog
from pipelines.report import write_report
from pipelines.runs import RunRecord, boot_id, process_start
from pipelines.store import Store


def key_of(name: str) -> str:
    """A key as long as a real one."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass
class HandwrittenRun:
    """One run of pipeline `toy`: curate (reads nothing), pretrain (reads curate), register (reads pretrain)."""

    store: Path
    id: str = "toy-20260101-000000-aaaa"
    pid: int = field(default_factory=os.getpid)
    pipeline: str = "toy"

    def __post_init__(self) -> None:
        (self.path / "logs").mkdir(parents=True)
        (self.path / "logs" / "mirror.log").touch()
        stages: dict[str, Any] = {
            "curate": {"uses": "curate", "inputs": {}, "clusters": 5, "nested": {"ratio": 0.5, "sizes": [1, 2]}},
            "pretrain": {"uses": "pretrain", "inputs": {"selection": "curate"}, "epochs": 3},
            "register": {"uses": "register", "inputs": {"checkpoint": "pretrain"}, "name": "toy-model"},
        }
        spec = {"name": self.pipeline, "description": "", "stages": stages}
        (self.path / "spec.yaml").write_text(yaml.safe_dump(spec))
        (self.path / "plan.json").write_text(json.dumps({"steps": [{"stage": name} for name in stages]}))
        head = {
            "id": self.id,
            "pipeline": self.pipeline,
            "created": "2026-01-01T00:00:00+00:00",
            "pid": self.pid,
            "pid_start": process_start(self.pid) or 0.0,
            "host": socket.gethostname(),
            "boot_id": boot_id(),
            "parent": None,
        }
        (self.path / "run.json").write_text(json.dumps(head))

    @property
    def path(self) -> Path:
        return self.store / "runs" / self.id

    def event(self, kind: str, stage: str | None = None, **fields: Any) -> None:
        EventLog(self.path / "events.jsonl").append(kind, stage, **fields)

    def start(self) -> None:
        self.event("run_started", run=self.id, pipeline=self.pipeline)

    def curves(self, steps: range, stage: str = "pretrain") -> None:
        for step in steps:
            self.event("metrics", stage, step=step, values={"loss": 1.0 / (1 + step), "lr": 0.1})

    def artifact(self, stage: str, inputs: tuple[str, ...] = ()) -> Path:
        folder = self.store / "objects" / stage / key_of(stage)
        if folder.exists():
            return folder
        (folder / "report").mkdir(parents=True)
        Image.new("RGB", (64, 48), (200, 80, 40)).save(folder / "report" / "sheet.png")
        (folder / "report" / "notes.md").write_text(f"# What {stage} did\n")
        entries = [{"name": "selection", "stage": i, "key": key_of(i), "digest": key_of(i + "!")} for i in inputs]
        manifest = {
            "kind": stage, "type": stage, "stage": stage, "key": key_of(stage), "digest": key_of(stage + "!"),
            "inputs": entries, "recipe": {"params": {}}, "params": {"of": stage}, "metrics": {"kept_share": 0.4},
            "files": [], "seconds": 1.5,
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    def finish(self, stage: str, action: str = "run", inputs: tuple[str, ...] = ()) -> None:
        self.artifact(stage, inputs)
        self.event(
            "stage_finished",
            stage,
            action=action,
            type=stage,
            key=key_of(stage),
            digest=key_of(stage + "!"),
            seconds=1.5,
            rows_in=100,
            rows_out=40,
            metrics={"kept_share": 0.4},
            summary=f"{stage} is done",
            artifact=f"objects/{stage}/{key_of(stage)}",
        )

    def registration(self, model: Path) -> None:
        folder = self.artifact("register", ("pretrain",))
        shutil.copytree(model, folder / "model", dirs_exist_ok=True)
        wanted = {
            "name": "toy-model",
            "alias": "candidate",
            "tags": {"shards": "abc"},
            "metrics": {"knn": 0.61, "birds/knn": 0.5},
        }
        tested = {name: {"name": name or "held-out images", "digest": key_of(name)} for name in ("", "birds")}
        wanted |= {"card": "## Results\n\nA toy that halves.\n", "datasets": tested}
        (folder / "registration.json").write_text(json.dumps(wanted))

    def whole(self, model: Path | None = None) -> None:
        """Every event of a run that goes well."""
        self.start()
        self.event("stage_started", "curate", key=key_of("curate"), attempt=1)
        self.event("note", "curate", text="two clusters were empty")
        self.finish("curate")
        self.event("stage_started", "pretrain", key=key_of("pretrain"), attempt=1)
        self.curves(range(10))
        self.finish("pretrain", inputs=("curate",))
        if model is not None:
            self.registration(model)
            self.event("stage_started", "register", key=key_of("register"), attempt=1)
            self.finish("register", inputs=("pretrain",))
        self.end()

    def end(self, status: str = "done") -> None:
        write_report(RunRecord(Store(self.store), self.id), status)
        self.event("run_finished", status=status)
