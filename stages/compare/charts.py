"""Charts of a comparison: values and differences by variant, quality against cost, and what each axis is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.compare.report import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GREY, _SOFT = "#2f6fde", "#999", "#b8bec9"


def comparison_chart(record: Mapping[str, Any]) -> Figure:
    """A column a measure. Above: each repetition as a dot, the mean with its interval; below: paired differences."""
    from matplotlib.figure import Figure

    measures, rows = record["measures"], record["rows"]
    names = [" ".join(row["variant"].values()) for row in rows]
    width = max(2.4, 0.55 * len(rows) + 1.0)
    figure = Figure(figsize=(min(14.0, width * len(measures)), 5.6), layout="constrained")
    panels = figure.subplots(2, len(measures), squeeze=False, sharex=True)
    for column, measure in enumerate(measures):
        above, below = panels[0][column], panels[1][column]
        _draw_values(above, record, measure)
        for place, row in enumerate(rows):
            _draw_interval(below, place, [row[measure].get(f"difference{end}") for end in ("", "_lo", "_hi")])
        below.axhline(0, color=_GREY, linewidth=0.8)
        above.set_title(label(measure), fontsize=10)
        below.set_xticks(range(len(rows)), names, rotation=40, ha="right", fontsize=8)
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(axis="y", labelsize=8)
            axes.margins(x=0.15)
    panels[0][0].set_ylabel(f"mean over {record['repeats']}s", fontsize=9)
    against = ", ".join(record["baseline"].values())
    panels[1][0].set_ylabel(f"difference to {against}", fontsize=9)
    return figure


def _draw_values(axes: Axes, record: Mapping[str, Any], measure: str) -> None:
    for place, row in enumerate(record["rows"]):
        own = [c["metrics"][measure] for c in record["cells"] if c["values"].items() >= row["variant"].items()]
        axes.plot([place + 0.18] * len(own), own, ".", color=_SOFT, markersize=5)
        _draw_interval(axes, place, [row[measure][name] for name in ("mean", "lo", "hi")])


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
    axes.set_xlabel("seconds of training, by the clock", fontsize=9)
    axes.set_ylabel(label(measure), fontsize=9)
    axes.set_xlim(left=0)
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure


def effects_chart(record: Mapping[str, Any]) -> Figure:
    """Of each axis a panel: each level's mean less the mean of all, with its interval."""
    from matplotlib.figure import Figure

    effects, shares = record["main_effects"]["effects"], record["main_effects"]["shares"]
    width = sum(max(1.8, 0.6 * len(levels)) for levels in effects.values())
    figure = Figure(figsize=(min(12.0, width + 0.8), 3.4), layout="constrained")
    panels = figure.subplots(1, len(effects), squeeze=False, sharey=True)[0]
    for axes, (axis, levels) in zip(panels, effects.items(), strict=True):
        for place, row in enumerate(levels.values()):
            _draw_interval(axes, place, [row[name] for name in ("effect", "lo", "hi")])
        axes.axhline(0, color=_GREY, linewidth=0.8)
        axes.set_xticks(range(len(levels)), list(levels), rotation=40, ha="right", fontsize=8)
        axes.set_title(f"{axis}: {100 * shares[axis]:.0f} % of the squares", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", labelsize=8)
        axes.margins(x=0.2)
    panels[0].set_ylabel(f"{label(record['measures'][0])} less the mean", fontsize=9)
    return figure
