"""A run's event log as the mirror reads it: from a byte offset, with times in MLflow's unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.events import RUN_FINISHED, EventLog

_EVENTS = "events.jsonl"


@dataclass(frozen=True)
class LoggedEvent:
    """One event. end: byte offset behind its line."""

    end: int
    fields: dict[str, Any]

    @property
    def kind(self) -> str:
        """What happened, such as `stage_finished`."""
        return str(self.fields["kind"])

    @property
    def stage(self) -> str | None:
        """The stage that it is about, or None."""
        return self.fields.get("stage")

    @property
    def milliseconds(self) -> int:
        """When it happened, in milliseconds since the epoch."""
        return int(datetime.fromisoformat(str(self.fields["time"])).timestamp() * 1000)


def read_events(run_folder: Path, offset: int) -> Iterator[LoggedEvent]:
    """The whole events behind `offset`; one that is still being written is left for later."""
    for end, fields in EventLog(run_folder / _EVENTS).read(offset):
        yield LoggedEvent(end, fields)


def log_is_longer(run_folder: Path, offset: int) -> bool:
    """Whether the log holds a whole event behind `offset`."""
    return next(read_events(run_folder, offset), None) is not None


def run_ended(run_folder: Path) -> bool:
    """Whether the last event says that the run finished."""
    last = ""
    for event in read_events(run_folder, 0):
        last = event.kind
    return last == RUN_FINISHED
