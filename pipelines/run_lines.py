"""What there is to tell of each stage of a run, from its record: the rows of its report and of its picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipelines.runs import RunRecord, RunState, StageState


@dataclass(frozen=True)
class StageLine:
    """One stage of a run.

    reads: names of the stages that it reads from. action: run | reused | failed | blocked | cancelled | running |
    waiting. why: the reasons of the plan. before: seconds that a reused artifact took when it was built, or None.
    """

    name: str
    type: str
    reads: tuple[str, ...]
    action: str
    why: str
    state: StageState
    before: float | None = None


def stage_lines(record: RunRecord, state: RunState) -> list[StageLine]:
    """A line for each stage, in the order of the spec. A run that has no plan (it died too early) has no reasons."""
    bodies = record.spec_document()["stages"]
    steps = {step["stage"]: step for step in _planned(record)}
    lines = []
    for name, stage in state.stages.items():
        step = steps.get(name, {})
        reads = tuple(dict.fromkeys(bodies[name].get("inputs", {}).values()))
        action = "run" if stage.state == "done" else stage.state
        artifact = record.store.find(stage.type, stage.key).artifact if action == "reused" else None
        before = artifact.manifest["seconds"] if artifact else None
        lines.append(StageLine(name, stage.type, reads, action, "; ".join(step.get("causes", [])), stage, before))
    return lines


def _planned(record: RunRecord) -> list[dict[str, Any]]:
    try:
        return json.loads((record.path / "plan.json").read_text())["steps"]
    except (FileNotFoundError, ValueError, KeyError):
        return []
