"""The section on the layers of the trained backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.review_page import PageSection, paragraph, table_html
from stages.charts import Line, heat_table, line_chart
from stages.evaluate.pages.contestants import interval_words


def layers_section(rows: Sequence[Mapping[str, Any]], grid: Mapping[str, Any]) -> PageSection | None:
    """The probes of each layer of the trained backbone by depth, and the grid of linear heads on them.

    rows, grid: `layers` and `grid` of the record.
    """
    if len(rows) < 2:
        return None
    charts = ""
    for pooling in dict.fromkeys(_pooling(str(row["name"])) for row in rows):
        chosen = [row for row in rows if _pooling(str(row["name"])) == pooling]
        if len(chosen) < 2:
            continue
        lines = [
            Line(
                probe,
                [(x, row[probe]) for x, row in enumerate(chosen)],
                colour,
                [(x, row[f"{probe}_lo"], row[f"{probe}_hi"]) for x, row in enumerate(chosen)],
            )
            for probe, colour in (("knn", "var(--blue)"), ("linear", "var(--green)"))
        ]
        ticks = {float(x): str(row["name"]).partition("/")[0].rpartition("_")[2] for x, row in enumerate(chosen)}
        charts += line_chart(pooling or "as pooled", lines, note="Accuracy by layer.", x_ticks=ticks)
    table = table_html(
        ["layer", "width", "kNN", "linear", "kNN over output", "RankMe"],
        [
            [
                row["name"],
                row["dim"],
                interval_words(row, "knn"),
                interval_words(row, "linear"),
                interval_words(row, "knn_gain", "+"),
                f"{row['rankme']:.1f}",
            ]
            for row in rows
        ],
    )
    return PageSection("layers", "Layers", f'<div class="charts">{charts}</div>{table}{_grid(grid)}')


def _grid(grid: Mapping[str, Any]) -> str:
    """What every head of the grid gets right of the rows that were held out to choose by."""
    if not grid:
        return ""
    found = {(row["input"], row["learning_rate"]): row["held_out"] for row in grid["selection"]}
    inputs, rates = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    shares = [[found.get((name, rate)) for rate in rates] for name in inputs]
    known = [share for row in shares for share in row if share is not None]
    head = grid["head"]
    note = paragraph(
        f"Accuracy of each linear head on held-out training images, by input and learning rate; chosen: "
        f"{head['input']} at {head['learning_rate']:g}."
    )
    table = heat_table(
        [name.replace("_", " ") for name in inputs],
        [f"{rate:g}" for rate in rates],
        shares,
        low=min(known),
        high=max(known),
        turned=True,
    )
    return f"<h3>Grid of heads</h3>{note}{table}"


def _pooling(name: str) -> str:
    return name.partition("/")[2]
