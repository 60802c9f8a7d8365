"""What a person reads of a comparison: a Markdown page, a CSV table, and charts with intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

LABELS = {
    "knn_trained": "kNN",
    "linear_trained": "linear",
    "knn_trained_balanced": "kNN, balanced",
    "linear_trained_balanced": "linear, balanced",
    "rankme_trained": "RankMe",
    "clid_trained": "CLID",
}


Seconds = Mapping[str, float | None]
"""What each evaluation's training took, by the evaluation's name."""


def write_report(folder: Path, record: Mapping[str, Any], seconds: Seconds) -> None:
    """Write `comparison.md`, `comparison.csv`, `comparison.png`, and, where there is something to draw, `cost.png`
    (quality against training time) and `effects.png` (what each axis is worth)."""
    from stages.compare.charts import comparison_chart, cost_chart, effects_chart

    (folder / "comparison.md").write_text(comparison_markdown(record, seconds), encoding="utf-8")
    (folder / "comparison.csv").write_text(cells_csv(record, seconds), encoding="utf-8")
    comparison_chart(record).savefig(folder / "comparison.png", dpi=110)
    costs = variant_seconds(record, seconds)
    if all(cost is not None for cost in costs):
        cost_chart(record, costs).savefig(folder / "cost.png", dpi=110)
    if record["main_effects"]:
        effects_chart(record).savefig(folder / "effects.png", dpi=110)


def variant_seconds(record: Mapping[str, Any], seconds: Seconds) -> list[float | None]:
    """Mean training seconds of each row's evaluations; None where they are not all known."""
    found = []
    for row in record["rows"]:
        own = [seconds.get(c["name"]) for c in record["cells"] if c["values"].items() >= row["variant"].items()]
        known = [value for value in own if value is not None]
        found.append(fmean(known) if known and len(known) == len(own) else None)
    return found


def comparison_markdown(record: Mapping[str, Any], seconds: Seconds) -> str:
    """The table of variants, what its intervals mean, who is best, what each axis is worth, and every single
    evaluation with its own interval."""
    axes = list(record["rows"][0]["variant"])
    against = ", ".join(f"{axis} {value}" for axis, value in record["baseline"].items())
    head = [*axes, "images", "seconds"]
    for measure in record["measures"]:
        head += [label(measure), f"{label(measure)} − {against}"]
    lines = [f"# {' × '.join(axes)}", "", _row(head), "|" + "---|" * len(head)]
    for row, cost in zip(record["rows"], variant_seconds(record, seconds), strict=True):
        cells = [*row["variant"].values(), *("" if n is None else f"{n:,.0f}" for n in (row["images"], cost))]
        for measure in record["measures"]:
            cells += [interval_text(row[measure]), difference_text(row[measure], row["baseline"])]
        lines.append(_row(cells))
    lines += ["", *(f"- {text}" for text in statements(record)), *_ranking(record), *_effects(record)]
    lines += ["", "## Every evaluation", ""]
    head = [*record["cells"][0]["values"], *map(label, record["measures"])]
    lines += [_row(head), "|" + "---|" * len(head)]
    for cell in record["cells"]:
        figures = [_single(cell["metrics"], measure) for measure in record["measures"]]
        lines.append(_row([*cell["values"].values(), *figures]))
    lines += [
        "",
        f"Intervals of single accuracies are Wilson's, over the {record['split']['queries']} queries: they say what "
        f"other queries might give, not what another {record['repeats']} would.",
    ]
    return "\n".join(lines) + "\n"


def _ranking(record: Mapping[str, Any]) -> list[str]:
    """Who is best by the first measure, and who is told apart from how many."""
    measure = record["measures"][0]
    head = ["", *record["rows"][0]["variant"], label(measure), "above", "below"]
    lines = ["", f"## Ranking by {label(measure)}", "", _row(head), "|" + "---|" * len(head)]
    for place, row in enumerate(record["ranking"], 1):
        lines.append(_row([place, *row["variant"].values(), f"{row['mean']:.3f}", row["above"], row["below"]]))
    told = f"Above and below: how many others a variant differs from beyond chance (paired by {record['repeats']})."
    return [*lines, "", told]


def _effects(record: Mapping[str, Any]) -> list[str]:
    found = record["main_effects"]
    if not found:
        return []
    measure = label(record["measures"][0])
    lines = [
        "",
        "## What each axis is worth",
        "",
        _row(["axis", "level", f"{measure} less the mean of all"]),
        "|---|---|---|",
    ]
    for axis, levels in found["effects"].items():
        for level, row in levels.items():
            lines.append(_row([axis, level, _with_bounds(row["effect"], row["lo"], row["hi"], sign="+")]))
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["shares"].items())
    return [*lines, "", f"Shares of the sum of squares: {shares}."]


def statements(record: Mapping[str, Any]) -> list[str]:
    """How the table is to be read, a sentence each."""
    confidence, split = f"{100 * record['confidence']:.0f} %", record["split"]
    runs = sorted({row["runs"] for row in record["rows"]})
    told = [
        f"Mean over {'/'.join(map(str, runs))} values of {record['repeats']} with its {confidence} t interval; "
        "differences are paired by "
        f"{record['repeats']}, with a {confidence} t interval of their own. Neither allows for many comparisons.",
        f"Probes learn from the same {split['bank']} images and are tested on the same {split['queries']} "
        f"(protocol {record['protocol']}, bank {split['digests']['bank'][:12]}, "
        f"queries {split['digests']['queries'][:12]}).",
    ]
    if record["chance"] is not None:
        told.append(f"Always saying the commonest class gives an accuracy of {record['chance']:.3f}.")
    return [*told, *(f"Note: {text}." for text in record["remarks"])]


def label(measure: str) -> str:
    """A measure for a person, behind the name of the evaluation set that it was taken on."""
    of_set, _, name = measure.rpartition("/")
    return f"{of_set} {LABELS.get(name, name)}".strip()


def interval_text(statistics: Mapping[str, float | None]) -> str:
    """ "0.468 (0.455 .. 0.481)", without the interval where there is none."""
    return _with_bounds(statistics["mean"], statistics["lo"], statistics["hi"])


def difference_text(statistics: Mapping[str, float | None], is_baseline: bool = False) -> str:
    """ "+0.012 (-0.004 .. +0.028)"; empty without a baseline to compare with."""
    if is_baseline or "difference" not in statistics:
        return "baseline" if is_baseline else ""
    value, low, high = (statistics[f"difference{end}"] for end in ("", "_lo", "_hi"))
    return _with_bounds(value, low, high, sign="+")


def _with_bounds(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    assert value is not None
    form = f"{sign}.{1 if abs(value) >= 10 else 3}f"
    return f"{value:{form}}" + ("" if low is None or high is None else f" ({low:{form}} .. {high:{form}})")


def _single(metrics: Mapping[str, float], measure: str) -> str:
    return _with_bounds(metrics[measure], metrics.get(f"{measure}_lo"), metrics.get(f"{measure}_hi"))


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def cells_csv(record: Mapping[str, Any], seconds: Seconds) -> str:
    """A line for each evaluation: its value on every axis, images and seconds trained on, and its figures."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = ("", "_lo", "_hi")
    names = [f"{m}{end}" for m in record["measures"] for end in ends if f"{m}{end}" in record["cells"][0]["metrics"]]
    writer.writerow([*record["cells"][0]["values"], "images", "seconds", *names])
    for cell in record["cells"]:
        cost = seconds.get(cell["name"])
        figures = (cell["metrics"].get(name) for name in names)
        writer.writerow([*cell["values"].values(), cell["images"], cost, *figures])
    return buffer.getvalue()
