"""The table of what every objective learned in the same CPU-seconds on the same pictures, as it was last measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from rich.table import Table
from rich.text import Text

from pipelines.errors import UsageError
from pipelines.names import nearest

_COLUMNS = ("objective", "backbone", "seeds", "kNN", "linear", "kNN gain", "linear gain", "RankMe", "images/s", "MB")


def ladder_document(objective: str | None = None) -> dict[str, Any]:
    """The table with its date, the machine, and the command that makes it anew; its rows of one objective, if named.

    Raises UsageError where there is no row of it.
    """
    document = dict(json.loads(files("training.objectives").joinpath("ladder.json").read_text()))
    if objective is not None:
        measured = sorted({row["objective"] for row in document["rows"]})
        if objective not in measured:
            raise UsageError(f"'{objective}' was not measured{nearest(objective, measured)}")
        document["rows"] = [row for row in document["rows"] if row["objective"] == objective]
    return document


def ladder_table(document: Mapping[str, Any]) -> Table:
    """The table for a person: accuracies in percent, with the half-widths of their 95 % intervals."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", caption_justify="left")
    table.title = Text(_heading(document), justify="left")
    table.caption = Text(
        "Accuracy in % on held-out pictures, the mean of three sets; gain: over the same backbone untrained. "
        "± is half of a 95 % interval: over seeds, of gains over pictures. images/s: per CPU-second.",
        justify="left",
    )
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in _COLUMNS[:2] else "right")
    for row in document["rows"]:
        cells = [row["objective"], row["backbone"], str(row["seeds"])]
        cells += [_percent(row, name) for name in ("knn", "linear", "knn_gain", "linear_gain")]
        cells += [f"{row[name]:.0f}" if name in row else "" for name in ("rankme", "images_per_cpu_s", "memory_mb")]
        table.add_row(*cells)
    return table


def _heading(document: Mapping[str, Any]) -> str:
    budgets = " or ".join(f"{seconds} ({backbone})" for backbone, seconds in document["budgets"].items())
    return (
        f"Trained by their small recipes for {budgets} CPU-seconds each on {document['pictures']} pictures "
        f"of {document['side']} px ({document['date']}; {document['machine']})"
    )


def _percent(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    half = (row[f"{name}_hi"] - row[f"{name}_lo"]) / 2 if f"{name}_lo" in row else None
    sign = "+" if name.endswith("gain") else ""
    return f"{100 * row[name]:{sign}.1f}" + (f" ± {100 * half:.1f}" if half is not None else "")
