"""What a person sees of a run: bars while it works, one line a stage, a closing table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipelines import events
from pipelines.planner import Plan
from pipelines.runs import RunRecord, RunState

_MARKS = {
    "done": ("run", "green"),
    "reused": ("reused", "cyan"),
    "failed": ("failed", "red"),
    "blocked": ("blocked", "yellow"),
    "cancelled": ("cancelled", "yellow"),
    "running": ("running", "blue"),
    "waiting": ("-", "dim"),
}
_ACTIONS = {"reuse": "cyan", "resume": "blue", "run": "green", "maybe": "yellow", "blocked": "red"}


class Display:
    """Follows a run's events. On a terminal it draws bars, elsewhere it prints a line when something changes."""

    def __init__(self, record: RunRecord, console: Console) -> None:
        self._log, self._console, self._offset = record.log, console, 0
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("  {task.fields[stage]:<10}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        self._progress.stop()

    def update(self) -> None:
        """Show what has happened since the last call."""
        for offset, event in self._log.read(self._offset):
            self._offset = offset
            self._show(event)

    def _show(self, event: dict[str, Any]) -> None:
        kind, stage = event["kind"], event["stage"]
        if kind == events.STAGE_STARTED:
            self._drop(stage)
            self._tasks[stage] = self._progress.add_task("", stage=stage, figures="starting", total=None)
            if not self._console.is_terminal:
                self._console.print(f"  {stage:<10} started", highlight=False)
        elif kind == events.PROGRESS and stage in self._tasks:
            live = "  ".join(f"{name} {value:.4g}" for name, value in event["live"].items())
            total = "?" if event["total"] is None else f"{event['total']:,.0f}"
            figures = f"{event['done']:,.0f}/{total} {event['unit']}  {live}"
            self._progress.update(self._tasks[stage], completed=event["done"], total=event["total"], figures=figures)
        elif kind == events.NOTE:
            self._console.print(Text(f"  {stage:<10} {event['text']}", style="dim"))
        elif kind == events.STAGE_FINISHED:
            self._drop(stage)
            word, colour = _MARKS["reused" if event["action"] == "reused" else "done"]
            line = f"  {stage:<10} [{colour}]{word}[/{colour}]  {rows_text(event['rows_in'], event['rows_out'])}"
            if event["action"] != "reused":
                line += f"  {event['seconds']:.1f} s"
            self._console.print(line, highlight=False)
        elif kind in (events.STAGE_FAILED, events.STAGE_BLOCKED):
            self._drop(stage)
            failed = "cancelled" if event.get("cancelled") else "failed"
            word, colour = _MARKS[failed if kind == events.STAGE_FAILED else "blocked"]
            self._console.print(Text.assemble(f"  {stage:<10} ", (word, colour), f"  {event['error']}"))

    def _drop(self, stage: str) -> None:
        if stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))


def rows_text(rows_in: int | None, rows_out: int | None) -> str:
    """ "4,495 -> 2,000" with what is known."""
    return " -> ".join(f"{rows:,}" for rows in (rows_in, rows_out) if rows is not None)


def state_table(state: RunState) -> Table:
    """A row a stage: what was done, rows in and out, seconds, one line of findings."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "", "rows", "seconds", "artifact", "found"):
        table.add_column(name, justify="right" if name == "seconds" else "left", no_wrap=name != "found")
    for stage in state.stages.values():
        word, colour = _MARKS[stage.state]
        seconds = f"{stage.seconds:.1f}" if stage.state == "done" else ""
        detail = stage.error or stage.summary
        rows = rows_text(stage.rows_in, stage.rows_out)
        table.add_row(stage.name, Text(word, style=colour), rows, seconds, stage.key[:12], Text(detail))
    return table


def plan_table(plan: Plan) -> Table:
    """A row a stage: the action, why, and what it took last time; below it what the stage remarks."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "action", "why", "last time"):
        table.add_column(name, justify="right" if name == "last time" else "left", no_wrap=name != "why")
    for step in plan.steps.values():
        action = Text(step.action, style=_ACTIONS[step.action])
        seconds = "" if step.seconds is None or step.action == "reuse" else f"{step.seconds:.1f} s"
        table.add_row(step.stage, action, Text(step.why), seconds)
        for remark in step.remarks:
            table.add_row("", "", Text(remark, style="dim"), "")
    return table
