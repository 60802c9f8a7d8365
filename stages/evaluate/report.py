"""What a person reads of an evaluation: a Markdown page, a table by class, and two charts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.evaluate.evaluated import Evaluated
from stages.evaluate.wide_report import cost_lines, wide_files, wide_sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "evaluation.md"
_CONTESTANTS = (("trained", "#2f6fde"), ("untrained", "#b8bec9"), ("pixels", "#e0a458"))
_PROBES = (("knn", "kNN"), ("linear", "linear"))
_MAX_CLASSES = 40
_OPENED = (
    "Untrained: the first weights of the same backbone, but with gains of one in norms that its library starts at "
    "zero (the ends of residual branches of a ResNet). With zeros hardly more than shortcuts would see the picture, "
    "and every gain over it would flatter."
)


def write_report(folder: Path, evaluated: Evaluated, costs: Mapping[str, float]) -> None:
    """Everything that a person looks at of one split."""
    from stages.evaluate.pages import write_pages

    record, split = evaluated.record, evaluated.split
    (folder / PAGE).write_text(report_markdown(record, costs))
    for name, text in wide_files(record).items():
        (folder / name).write_text(text)
    if evaluated.predictions:
        (folder / "per_class.csv").write_text(class_table_csv(record["classes"]))
        accuracy_chart(record["metrics"]).savefig(folder / "accuracy.png", dpi=110)
        confusion_chart(record["confusion"]["knn"], split.classes).savefig(folder / "confusion.png", dpi=110)
    write_pages(folder, evaluated, costs)


def report_markdown(record: Mapping[str, Any], costs: Mapping[str, float] | None = None) -> str:
    """Headline figures with intervals, what was measured on what, and the table by class."""
    metrics, split = record["metrics"], record["split"]
    lines = [f"# Evaluation, protocol `{record['protocol']['id']}`", ""]
    if record["classes"]:
        lines += _headline(metrics, record)
    else:
        lines += [f"{split['note']}: label-free measures only.", ""]
    lines += [
        "| label-free measure | trained | untrained |",
        "|---|---|---|",
        *(
            f"| {label} | {metrics[f'{name}_trained']:.4g} | {metrics[f'{name}_untrained']:.4g} |"
            for name, label in (
                ("rankme", "RankMe"),
                ("effective_rank", "effective rank of the covariance"),
                ("unit_std", "spread on the sphere (0: collapsed)"),
            )
        ),
        "",
        f"{split['bank']} training images, {split['queries']} held-out queries, seed {split['seed']}, split "
        f"`{split['digests']['bank'][:12]}` / `{split['digests']['queries'][:12]}`.",
    ]
    if split["undecodable"]:
        lines.append(f"{split['undecodable']} images could not be decoded and took no part.")
    lines += [f"- class `{name}` left out: {reason}" for name, reason in split["left_out"].items()]
    if record["protocol"].get("open_branches"):
        lines += ["", _OPENED]
    lines += [*wide_sections(record), *_sets(record), *(cost_lines(costs) if costs else ())]
    if record["classes"]:
        lines += ["", "## By class", "", *_class_table(record["classes"])]
    return "\n".join(lines) + "\n"


def _headline(metrics: Mapping[str, float], record: Mapping[str, Any]) -> list[str]:
    lines = [
        f"| probe | {' | '.join(name for name, _ in _CONTESTANTS)} | gain over untrained |",
        "|---|---|---|---|---|",
    ]
    for probe, label in _PROBES:
        cells = [_with_interval(metrics, f"{probe}_{name}") for name, _ in _CONTESTANTS]
        gain = _with_interval(metrics, f"{probe}_gain_over_untrained", sign="+")
        lines.append(f"| {label} | {' | '.join(cells)} | {gain} |")
        cells = [_with_interval(metrics, f"{probe}_{name}_balanced") for name, _ in _CONTESTANTS]
        lines.append(f"| {label}, balanced | {' | '.join(cells)} | |")
    grid = record["probes"]["trained"]["knn_by_k"]
    by_k = ", ".join(f"k = {k}: {share:.3f}" for k, share in sorted(grid.items(), key=lambda item: int(item[0])))
    confidence = f"{100 * record['protocol']['confidence']:.0f} %"
    return [
        *lines,
        "",
        f"Accuracy on held-out images with {confidence} intervals; always saying the commonest class gives "
        f"{metrics['chance']:.3f}. kNN of the trained backbone by k: {by_k}.",
        "",
    ]


def _sets(record: Mapping[str, Any]) -> list[str]:
    """A table of the evaluation sets, those that were not guarded marked, with the reason below."""
    sets, metrics = record.get("sets", {}), record["metrics"]
    if not sets:
        return []
    lines = [
        "",
        "## Evaluation sets",
        "",
        "| set | kNN | linear | kNN gain over untrained | guarded |",
        "|---|---|---|---|---|",
    ]
    for name, found in sets.items():
        probed = f"{name}/knn_trained" in metrics
        figures = (("knn_trained", ""), ("linear_trained", ""), ("knn_gain_over_untrained", "+"))
        cells = [_with_interval(metrics, f"{name}/{figure}", sign) if probed else "" for figure, sign in figures]
        lines.append(f"| {name} | {' | '.join(cells)} | {'**no**' if 'unguarded' in found else 'yes'} |")
    lines.append("")
    for name, found in sets.items():
        if "unguarded" in found:
            lines.append(f"- `{name}` is unguarded: {found['unguarded']}. Its figures can't be trusted.")
        elif found["split"]["note"]:
            lines.append(f"- `{name}` is not probed: {found['split']['note']}.")
    return lines


def _with_interval(metrics: Mapping[str, float], name: str, sign: str = "") -> str:
    return f"{metrics[name]:{sign}.3f} ({metrics[f'{name}_lo']:{sign}.3f} .. {metrics[f'{name}_hi']:{sign}.3f})"


def _columns() -> list[str]:
    return [f"{probe}_{name}" for probe, _ in _PROBES for name, _ in _CONTESTANTS]


def _class_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = _columns()
    head = ["class", "train", "queries", *(column.replace("_", " ") for column in columns)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        shares = ["" if row[column] is None else f"{row[column]:.2f}" for column in columns]
        name = str(row["name"]).replace("|", "\\|")
        lines.append(f"| {name} | {row['bank']} | {row['queries']} | {' | '.join(shares)} |")
    return lines


def class_table_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table by class: name, bank and query counts, accuracy by probe and contestant."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["name", "bank", "queries", *_columns()], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def accuracy_chart(metrics: Mapping[str, float]) -> Figure:
    """Bars of both probes for the trained backbone, the untrained one and raw pixels, with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for index, (contestant, colour) in enumerate(_CONTESTANTS):
        names = [f"{probe}_{contestant}" for probe, _ in _PROBES]
        values = np.array([metrics[name] for name in names])
        low = values - [metrics[f"{name}_lo"] for name in names]
        high = np.array([metrics[f"{name}_hi"] for name in names]) - values
        places = np.arange(len(_PROBES)) + 0.27 * (index - 1)
        axes.bar(places, values, 0.25, yerr=[low, high], capsize=3, color=colour, label=contestant)
        for place, value, rise in zip(places, values, high, strict=True):
            axes.text(place, value + rise + 0.01, f"{value:.2f}", ha="center", fontsize=8)
    axes.axhline(metrics["chance"], color="#999", linewidth=0.8, linestyle=":", label="commonest class")
    axes.set_xticks(np.arange(len(_PROBES)), [label for _, label in _PROBES])
    axes.set_ylabel("accuracy on held-out images")
    axes.set_ylim(0, min(1.08, axes.get_ylim()[1] + 0.08))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return figure


def confusion_chart(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """kNN confusion of the trained backbone, rows in shares of the true class (its largest classes where many)."""
    from matplotlib.figure import Figure

    counts = np.array(matrix)
    keep = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_MAX_CLASSES])
    shares = counts[np.ix_(keep, keep)] / np.maximum(counts[keep].sum(axis=1, keepdims=True), 1)
    names = [str(classes[c])[:22] for c in keep]
    side = 2.6 + 0.36 * len(keep)
    figure = Figure(figsize=(side, side - 0.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    if len(keep) <= 15:
        for row, column in np.ndindex(*shares.shape):
            share = shares[row, column]
            if share >= 0.005:
                colour = "white" if share > 0.55 else "#333"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(keep)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(keep)), names, fontsize=8)
    axes.set_xlabel("predicted by kNN")
    axes.set_ylabel("true class")
    more = f"{len(keep)} of {len(classes)} classes" if len(keep) < len(classes) else "trained backbone"
    axes.set_title(f"Confusion, {more}", fontsize=10)
    return figure
