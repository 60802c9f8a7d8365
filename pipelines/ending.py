"""The closing words of a run on the terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import tracking
from pipelines.api import Run
from pipelines.display import state_table
from pipelines.runs import RunState
from stages.artifact import Artifact

_PROBES = (("kNN", "knn"), ("linear", "linear"))
_SUBJECTS = (("trained", "trained"), ("untrained", "untrained"), ("raw pixels", "pixels"))


def print_ending(run: Run, state: RunState, model: dict[str, Any] | None, console: Console) -> None:
    """The table of stages, the probes, the model's name and version, and three commands to go on with."""
    console.print()
    console.print(state_table(state))
    console.print()
    finished = [stage for stage in state.stages.values() if stage.state in ("done", "reused")]
    for stage in finished:
        if stage.type == "compare":
            _print_comparison(run.artifact(stage.name), console)
        elif stage.type == "evaluate" and all(other.type != "compare" for other in state.stages.values()):
            _print_probes(stage.metrics, console)
    if model:
        console.print(f"model [bold]{model['name']}[/bold] version {model['version']}", highlight=False)
    elif any(stage.type == "register" for stage in finished):
        reason = tracking.unreachable_reason(run.record.store.root, run.id)
        later = f"MLflow will hold it as soon as its server answers{f': {reason}' if reason else ''}"
        later = later if run.mirror else "this run is not mirrored to MLflow"
        console.print(Text(f"model packaged; {later}"), soft_wrap=True)
    if state.status != "done":
        go_on = "to go on" if state.status == "cancelled" else "after mending the cause"
        console.print(f"run [bold]{state.status}[/bold]; {go_on}: curatrain resume {run.id}", soft_wrap=True)
        return
    link = tracking.run_link(run.record.store.root, run.id)
    console.print("next:", style="bold")
    console.print(
        f"  curatrain ui                  # look at the run in MLflow{f': {link}' if link else ''}", soft_wrap=True
    )
    for name, body in run.record.spec_document()["stages"].items():
        if body["uses"] == "curate" and body["clusters"]:
            change = f"--stage {name} --set {name}.clusters={2 * body['clusters']}"
            console.print(f"  curatrain rerun latest {change}  # another choice of images", soft_wrap=True)
            break
    console.print("  curatrain why IMAGE           # an image's way from its URL to the model", soft_wrap=True)


def _print_probes(metrics: dict[str, float], console: Console) -> None:
    for word, probe in _PROBES:
        figures = [
            f"{subject} {metrics[f'{probe}_{name}']:.3f}"
            for subject, name in _SUBJECTS
            if f"{probe}_{name}" in metrics
        ]
        if figures:
            console.print(f"{word} accuracy: {', '.join(figures)}", highlight=False)


def _print_comparison(artifact: Artifact, console: Console) -> None:
    """The variants with their means, intervals and differences, and how to read them."""
    from stages.compare.report import label, statements
    from stages.compare.words import difference_text, interval_text

    record = json.loads((artifact.path / "comparison.json").read_text())
    table = Table(box=None, pad_edge=False, header_style="bold")
    against = ", ".join(record["baseline"].values())
    for name in ("", *record["rows"][0]["variant"], "images", "mean", f"less {against}"):
        table.add_column(name)
    for measure in record["measures"]:
        for number, row in enumerate(record["rows"]):
            cells = [label(measure) if number == 0 else "", *row["variant"].values()]
            cells.append("" if row["images"] is None else f"{row['images']:,}")
            cells += [interval_text(row[measure]), difference_text(row[measure], row["baseline"])]
            table.add_row(*map(Text, cells))
    console.print(table)
    for text in statements(record):
        console.print(Text(text, style="dim"))
    console.print()
