"""A comparison as a picture: quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.compare.report import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _SOFT = "#2f6fde", "#b8bec9"


def _draw_interval(axes: Axes, place: float, statistics: Sequence[float | None]) -> None:
    value, low, high = statistics
    if value is None:
        return
    bars = None if low is None or high is None else [[value - low], [high - value]]
    axes.errorbar([place], [value], yerr=bars, fmt="o", color=_BLUE, capsize=4, markersize=5, linewidth=1.4)


def cost_chart(record: Mapping[str, Any], seconds: Sequence[float | None]) -> Figure:
    """The first measure against the training's seconds, both with all repetitions in mind; a line joins the variants
    that none is both better and cheaper than."""
    from matplotlib.figure import Figure

    measure, rows = record["measures"][0], record["rows"]
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    points = [(cost or 0.0, row[measure]["mean"]) for cost, row in zip(seconds, rows, strict=True)]
    front = sorted(p for p in points if not any(o[0] <= p[0] and o[1] >= p[1] and o != p for o in points))
    axes.plot(*zip(*front, strict=True), color=_SOFT, linewidth=1.2, zorder=0)
    for (cost, _), row in zip(points, rows, strict=True):
        _draw_interval(axes, cost, [row[measure][name] for name in ("mean", "lo", "hi")])
        name = " ".join(row["variant"].values())
        axes.annotate(name, (cost, row[measure]["mean"]), (6, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("seconds of training by the clock, start and checkpoints included", fontsize=9)
    axes.set_ylabel(label(measure), fontsize=9)
    axes.set_xlim(left=0)
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure
