"""What is said of a run at its end: its page report.md, its picture, and the same as plain data."""

from __future__ import annotations

import json
from typing import Any

from pipelines.display import rows_text
from pipelines.picture import pipeline_svg
from pipelines.run_lines import stage_lines
from pipelines.runs import RunRecord, RunState

PICTURE = "pipeline.svg"


def write_report(record: RunRecord, status: str) -> None:
    """Write `report.md` and `pipeline.svg` into the run's record.

    status: how the run ends, which no event says yet.
    """
    state = record.state()
    state.status = status
    record.write(PICTURE, pipeline_svg(record.id, status, stage_lines(record, state)))
    record.write("report.md", report_markdown(record, state))


def report_markdown(record: RunRecord, state: RunState) -> str:
    """The run in one page: a row a stage with action, rows and seconds; then findings, reasons and notes."""
    head = record.head()
    lines = [f"# {record.id}", "", f"Status: **{state.status}**", ""]
    if head["parent"]:
        lines += [f"Goes on from {head['parent']}.", ""]
    lines += [
        f"`{PICTURE}` beside this page draws it.",
        "",
        "| stage | action | rows | seconds |",
        "| --- | --- | ---: | ---: |",
    ]
    told = stage_lines(record, state)
    for line in told:
        stage = line.state
        seconds = f"{stage.seconds:.1f}" if line.action == "run" else ""
        rows = rows_text(stage.rows_in, stage.rows_out)
        lines.append(f"| {line.name} | {line.action} | {rows} | {seconds} |")
    # below the table, not in it: MLflow gives every column the same width, which is a fifth of a narrow frame
    found = ((line.name, line.state.error or line.state.summary) for line in told)
    lines += _listed("Found", [f"{name}: {text}".replace("\n", " ") for name, text in found if text])
    lines += _listed("Why", [f"{line.name}: {line.why}" for line in told if line.why])
    lines += _listed("Notes", [f"{line.name}: {note}" for line in told for note in line.state.notes])
    return "\n".join(lines) + "\n"


def _listed(title: str, items: list[str]) -> list[str]:
    return ["", f"{title}:", "", *(f"- {item}" for item in items)] if items else []


def run_document(record: RunRecord, state: RunState, registration: dict[str, Any] | None) -> dict[str, Any]:
    """A run as plain data, for `--json`."""
    return {
        "run": record.id,
        "pipeline": record.head()["pipeline"],
        "created": record.head()["created"],
        "parent": record.head()["parent"],
        "status": state.status,
        "stages": [vars(stage) for stage in state.stages.values()],
        "model": registration,
        "comparisons": _comparisons(record, state),
    }


def _comparisons(record: RunRecord, state: RunState) -> dict[str, Any]:
    """`comparison.json` of each finished compare stage, by its name."""
    found = {}
    for stage in state.stages.values():
        artifact = record.store.find(stage.type, stage.key).artifact if stage.type == "compare" and stage.key else None
        if artifact is not None:
            found[stage.name] = json.loads((artifact.path / "comparison.json").read_text())
    return found
