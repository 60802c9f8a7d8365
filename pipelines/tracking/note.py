"""The Markdown that stands on top of a run's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.tracking.state import MirrorState
from pipelines.tracking.values import TAG_LIMIT, clipped


def run_note(run_id: str, state: MirrorState, status: str) -> str:
    """The table of stages of a run, as far as it has come."""
    rows = [stage.row for stage in state.stages.values()]
    reused = sum(row.get("action") == "reused" for row in rows)
    ran = sum(row.get("action") == "run" for row in rows)
    seconds = sum(row.get("seconds") or 0.0 for row in rows if row.get("action") == "run")
    lines = [
        f"**{state.pipeline}** {status}: {ran} stages run, {reused} reused, {seconds:.0f} s of work",
        "",
        "| stage | action | in | out | seconds | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [_row(name, stage.row) for name, stage in state.stages.items()]
    lines += ["", *(f"- MLflow refused {text}" for text in state.skipped[:5])]
    lines += ["", f"`curatrain show {run_id}` tells more."]
    return clipped("\n".join(lines), TAG_LIMIT)


def _row(name: str, row: Mapping[str, Any]) -> str:
    def count(value: Any) -> str:
        return "" if value is None else f"{value:,}"

    seconds = "" if row.get("seconds") is None else f"{row['seconds']:.1f}"
    text = str(row.get("summary") or row.get("error") or "").replace("|", "/").replace("\n", " ")
    cells = (name, row.get("action", "running"), count(row.get("rows_in")), count(row.get("rows_out")), seconds, text)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
