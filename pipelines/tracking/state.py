"""What of a run has been delivered to MLflow, kept so that a delivery cut off at any moment can be repeated."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.tracking.redaction import public_address, same_server
from stages.base import committed

STATE = "mirror.json"


@dataclass
class StageState:
    """A stage's child run. steps: last step delivered of each curve. row: what the run's description shows."""

    run_id: str
    done: bool = False
    steps: dict[str, int] = field(default_factory=dict)
    params: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)


@dataclass
class MirrorState:
    """Progress of a run's delivery.

    tracking_uri: where to, without a password. offset: bytes of the event log that are in MLflow. skipped: what
    MLflow refused.
    """

    tracking_uri: str
    offset: int = 0
    experiment_id: str = ""
    run_id: str = ""
    pipeline: str = ""
    finished: bool = False
    stages: dict[str, StageState] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def save(self, run_folder: Path) -> None:
        """Commit the state by rename."""
        with committed(run_folder / STATE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1))


def read_state(run_folder: Path) -> MirrorState | None:
    """The state that was saved last, or None."""
    try:
        fields = json.loads((run_folder / STATE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    stages = {name: StageState(**stage) for name, stage in fields.pop("stages").items()}
    return MirrorState(**fields, stages=stages)


def load_state(run_folder: Path, uri: str) -> MirrorState:
    """The state of delivery to `uri`; a delivery that was begun elsewhere starts anew."""
    state = read_state(run_folder)
    if state is None or not same_server(state.tracking_uri, uri):
        return MirrorState(public_address(uri))
    state.tracking_uri = public_address(uri)
    return state
