"""A run's append-only log: the one vocabulary that the display, the status and the MLflow mirror read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUN_STARTED = "run_started"
RUN_FINISHED = "run_finished"
STAGE_STARTED = "stage_started"
STAGE_FINISHED = "stage_finished"
STAGE_FAILED = "stage_failed"
STAGE_BLOCKED = "stage_blocked"
PROGRESS = "progress"
METRICS = "metrics"
NOTE = "note"


@dataclass(frozen=True)
class EventLog:
    """The file `events.jsonl` of a run. Each event is one short line, appended in a single write, so that several
    processes of a run may write to it."""

    path: Path

    def append(self, kind: str, stage: str | None = None, **fields: Any) -> None:
        """Add an event."""
        event = {"time": datetime.now(UTC).isoformat(), "kind": kind, "stage": stage, **fields}
        line = json.dumps(event, default=float) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The whole events from byte `offset` on, each with the offset behind it. A line that a crash tore is skipped;
        one that is still being written is left for the next call."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    offset += len(line)
                    try:
                        yield offset, json.loads(line)
                    except ValueError:
                        continue
        except FileNotFoundError:
            return
