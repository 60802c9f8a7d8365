"""What each event of a run becomes in MLflow: a parent run, and a child run per stage.

Every step may be repeated: runs are found again by their tags, parameters and tags are written over with the same
values, points of curves carry the event's own time, and what was delivered is remembered in the state.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from pipelines.tracking.connection import experiment, find_run, refused
from pipelines.tracking.event_log import LoggedEvent
from pipelines.tracking.note import run_note
from pipelines.tracking.redaction import redacted
from pipelines.tracking.registration import register
from pipelines.tracking.samples import table_samples
from pipelines.tracking.state import MirrorState, StageState
from pipelines.tracking.values import METRIC_BATCH, PARAM_BATCH, TAG_LIMIT, batches, clipped, flat_params, numbers

_ENDS = {"done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED", "killed": "KILLED"}
_DIGEST = 16


class Delivery:
    """Brings the events of one run to MLflow. Any error but a refusal leaves the saved state behind for a retry."""

    def __init__(self, store: Path, run_id: str, state: MirrorState, client: MlflowClient) -> None:
        self.store = store
        self.run_id = run_id
        self.folder = store / "runs" / run_id
        self.state = state
        self.client = client
        self._points: dict[str, list[Metric]] = {}

    def handle(self, event: LoggedEvent) -> None:
        """Deliver one event; points of curves are held back until `flush`."""
        if event.kind == "metrics":
            self._collect(event)
            return
        handler = getattr(self, f"_on_{event.kind}", None)
        if handler is not None:
            self.flush()
            handler(event)

    @property
    def buffered(self) -> int:
        """Points of curves that wait for `flush`."""
        return sum(len(points) for points in self._points.values())

    def flush(self) -> None:
        """Deliver the points that were held back."""
        for stage, points in self._points.items():
            with self.tolerant(f"the curves of {stage}"):
                for batch in batches(points, METRIC_BATCH):
                    self.client.log_batch(self.state.stages[stage].run_id, metrics=batch)
        self._points.clear()

    @contextlib.contextmanager
    def tolerant(self, what: str) -> Iterator[None]:
        """Record what MLflow refuses and go on with the rest; other errors pass through."""
        try:
            yield
        except Exception as error:
            if not refused(error):
                raise
            self.skip(f"{what}: {error}")

    def skip(self, text: str) -> None:
        """Record what could not be delivered."""
        text = redacted(text)
        self.state.skipped.append(clipped(text, 500))
        print(f"skipped {text}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the mirror's log

    def close(self, status: str, milliseconds: int | None = None) -> None:
        """End the parent run and what is still open below it."""
        self.flush()
        if not self.state.run_id:
            return
        for stage in self.state.stages.values():
            if not stage.done:
                stage.row.setdefault("action", status)
                self.client.set_terminated(stage.run_id, "KILLED", milliseconds)
                stage.done = True
        self._describe(status)
        for name in ("report.md", "pipeline.svg"):
            self._upload(self.state.run_id, self.folder / name)
        self.client.set_terminated(self.state.run_id, _ENDS.get(status, "FAILED"), milliseconds)
        self.state.finished = True

    def _on_run_started(self, event: LoggedEvent) -> None:
        state = self.state
        state.finished = False
        state.pipeline = str(event.fields["pipeline"])
        state.experiment_id = experiment(self.client, self.store, state.pipeline)
        if state.run_id:
            self.client.update_run(state.run_id, status="RUNNING")
            return
        record = json.loads((self.folder / "run.json").read_text())
        tags = self._identity(self.run_id) | {"curatrain.run": self.run_id, "curatrain.pipeline": state.pipeline}
        if record.get("parent"):
            tags["curatrain.rerun_of"] = str(record["parent"])
        state.run_id = self._run(self.run_id, tags, event.milliseconds)
        self._describe("running")
        for name in ("spec.yaml", "plan.json"):
            self._upload(state.run_id, self.folder / name)

    def _on_stage_started(self, event: LoggedEvent) -> None:
        child = self._child(event)
        child.done = False
        tags = {"curatrain.key": event.fields.get("key", ""), "curatrain.attempt": event.fields.get("attempt", 1)}
        self._tag(child.run_id, tags)
        self._log_params(child, self._spec_params(str(event.stage)))
        self._describe("running")

    def _on_note(self, event: LoggedEvent) -> None:
        if event.stage is None:
            return
        child = self._child(event)
        child.notes.append(str(event.fields.get("text", "")))
        self._tag(child.run_id, {"mlflow.note.content": "\n\n".join(child.notes)})

    def _on_stage_finished(self, event: LoggedEvent) -> None:
        fields, name = event.fields, str(event.stage)
        first = self._source_run(fields) if fields.get("action") == "reused" else None
        child = self._child(event)
        child.row = {k: fields.get(k) for k in ("action", "type", "rows_in", "rows_out", "seconds", "summary")}
        folder = self.store / str(fields.get("artifact", ""))
        manifest = _manifest(folder)
        with self.tolerant(f"the tags of {name}"):
            self._tag(child.run_id, self._lineage(fields, first) | {"mlflow.note.content": _stage_note(child, fields)})
        self._log_params(child, self._spec_params(name) or manifest.get("recipe", {}).get("params", {}))
        with self.tolerant(f"the figures of {name}"):
            self._log_figures(child, event)
        with self.tolerant(f"the datasets of {name}"):
            self._log_datasets(child, event, manifest)
        with self.tolerant(f"the report of {name}"):
            self._upload(child.run_id, folder / "manifest.json")
            if (folder / "report").is_dir():
                self.client.log_artifacts(child.run_id, str(folder / "report"), "report")
            for table in sorted((folder / "tables").glob("*.json")):
                self._log_table(child.run_id, table)
                self._log_table(self.state.run_id, table)
        with self.tolerant(f"the samples of {name}"):
            self._log_samples(child.run_id, folder)
        if (folder / "registration.json").exists():
            with self.tolerant(f"the model of {name}"):
                register(self.client, self.store, folder, event, self.state, child.run_id)
        self.client.set_terminated(child.run_id, "FINISHED", event.milliseconds)
        child.done = True
        self._describe("running")

    def _on_stage_failed(self, event: LoggedEvent) -> None:
        word = "cancelled" if event.fields.get("cancelled") else "failed"
        self._end_badly(event, word, _ENDS[word])

    def _on_stage_blocked(self, event: LoggedEvent) -> None:
        self._end_badly(event, "blocked", "KILLED")

    def _on_run_finished(self, event: LoggedEvent) -> None:
        self.close(str(event.fields.get("status", "failed")), event.milliseconds)

    def _end_badly(self, event: LoggedEvent, action: str, status: str) -> None:
        child = self._child(event)
        error = str(event.fields.get("error", ""))
        child.row = {"action": action, "error": error.strip().split("\n")[0]}
        tags = {"curatrain.action": action, "curatrain.error": error, "mlflow.note.content": f"**{action}**: {error}"}
        self._tag(child.run_id, tags)
        self.client.set_terminated(child.run_id, status, event.milliseconds)
        child.done = True
        self._describe("running")

    def _identity(self, name: str) -> dict[str, str]:
        return {"curatrain.id": name, "curatrain.store": str(self.store)}

    def _run(self, name: str, tags: dict[str, str], start: int) -> str:
        identity = {key: tags[key] for key in ("curatrain.id", "curatrain.store")}
        found = find_run(self.client, [self.state.experiment_id], identity)
        if found is not None:
            return found.info.run_id
        with contextlib.suppress(OSError, KeyError):
            tags["mlflow.user"] = getpass.getuser()
        tags["mlflow.source.name"] = "curatrain"
        tags = {key: clipped(value, TAG_LIMIT) for key, value in tags.items()}
        return self.client.create_run(self.state.experiment_id, start, tags, name).info.run_id

    def _child(self, event: LoggedEvent) -> StageState:
        name = str(event.stage)
        if name not in self.state.stages:
            tags = self._identity(f"{self.run_id}/{name}") | {"curatrain.run": self.run_id, "curatrain.stage": name}
            tags["mlflow.parentRunId"] = self.state.run_id
            self.state.stages[name] = StageState(self._run(name, tags, event.milliseconds))
        return self.state.stages[name]

    def _source_run(self, fields: Mapping[str, Any]) -> str | None:
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        tags = {"curatrain.key": str(fields.get("key")), "curatrain.action": "run"}
        found = find_run(self.client, experiments, tags)
        return found.info.run_id if found is not None else None

    def _lineage(self, fields: Mapping[str, Any], first: str | None) -> dict[str, str]:
        names = ("action", "type", "key", "digest", "artifact")
        tags = {f"curatrain.{name}": str(fields.get(name, "")) for name in names}
        return tags | ({"curatrain.source_run_id": first} if first else {})

    def _spec_params(self, stage: str) -> dict[str, Any]:
        try:
            spec = yaml.safe_load((self.folder / "spec.yaml").read_text())
            body = dict(spec["stages"][stage])
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            return {}
        return {name: value for name, value in body.items() if name not in ("uses", "inputs")}

    def _log_params(self, child: StageState, params: Mapping[str, Any]) -> None:
        new = {key: value for key, value in flat_params(params).items() if key not in child.params}
        for batch in batches(list(new.items()), PARAM_BATCH):
            with self.tolerant("parameters"):
                self.client.log_batch(child.run_id, params=[Param(key, value) for key, value in batch])
        child.params += new

    def _log_figures(self, child: StageState, event: LoggedEvent) -> None:
        fields = event.fields
        counts = numbers({name: fields.get(name) for name in ("rows_in", "rows_out", "seconds")})
        figures = numbers(fields.get("metrics") or {})
        last = max(child.steps.values(), default=0)
        points = [Metric(key, value, event.milliseconds, last) for key, value in figures.items()]
        points += [Metric(key, value, event.milliseconds, 0) for key, value in counts.items()]
        for batch in batches(points, METRIC_BATCH):
            self.client.log_batch(child.run_id, metrics=batch)
        above = numbers({f"{event.stage}.{name}": value for name, value in figures.items()})
        for batch in batches(
            [Metric(key, value, event.milliseconds, 0) for key, value in above.items()], METRIC_BATCH
        ):
            self.client.log_batch(self.state.run_id, metrics=batch)

    def _log_datasets(self, child: StageState, event: LoggedEvent, manifest: Mapping[str, Any]) -> None:
        made = {"stage": event.stage, **{k: event.fields[k] for k in ("key", "digest")}}
        entries = [(str(i.get("name", "input")), i) for i in manifest.get("inputs", [])] + [("output", made)]
        datasets = [DatasetInput(self._dataset(e), [InputTag("mlflow.data.context", c)]) for c, e in entries]
        self.client.log_inputs(child.run_id, datasets)

    def _dataset(self, entry: Mapping[str, Any]) -> Dataset:
        stage, key = str(entry["stage"]), str(entry["key"])
        known = self.state.stages.get(stage)
        kind = (known.row.get("type") if known else None) or stage
        source = json.dumps({"uri": (self.store / "objects" / str(kind) / key).as_uri()})
        return Dataset(f"{stage}/{key[:_DIGEST]}", str(entry["digest"])[:_DIGEST], "local", source)

    def _collect(self, event: LoggedEvent) -> None:
        child, step = self._child(event), int(event.fields["step"])
        for key, value in numbers(event.fields.get("values") or {}).items():
            if step > child.steps.get(key, -1):
                child.steps[key] = step
                self._points.setdefault(str(event.stage), []).append(Metric(key, value, event.milliseconds, step))

    def _tag(self, run_id: str, tags: Mapping[str, Any]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(k, clipped(str(v), TAG_LIMIT)) for k, v in tags.items()])

    def _describe(self, status: str) -> None:
        self._tag(self.state.run_id, {"mlflow.note.content": run_note(self.run_id, self.state, status)})

    def _log_table(self, run_id: str, table: Path) -> None:
        """What `log_table` does, but for appending to what a delivery that was cut off has left."""
        self._upload(run_id, table)
        tag = "mlflow.loggedArtifacts"
        known = json.loads(self.client.get_run(run_id).data.tags.get(tag, "[]"))
        entry = {"path": table.name, "type": "table"}
        if entry not in known:
            self._tag(run_id, {tag: json.dumps([*known, entry])})

    def _log_samples(self, run_id: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            for name, sample in table_samples(folder):
                path = Path(temporary) / f"sample_{name}.json"
                path.write_text(json.dumps(sample))
                self._log_table(run_id, path)

    def _upload(self, run_id: str, path: Path) -> None:
        if path.exists():
            self.client.log_artifact(run_id, str(path))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}


def _stage_note(child: StageState, fields: Mapping[str, Any]) -> str:
    return "\n\n".join([str(fields.get("summary") or ""), *child.notes]).strip()
