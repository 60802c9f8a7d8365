"""What a person reads of a comparison: a Markdown page, a CSV table, and charts with intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stages.compare import pairwise_report
from stages.compare.words import Table, difference_text, interval_text, with_bounds

if TYPE_CHECKING:
    from stages.compare.gallery import Gallery

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


def write_report(folder: Path, record: Mapping[str, Any], seconds: Seconds, gallery: Gallery | None = None) -> None:
    """Write `comparison.md`, `comparison.html` with charts and the `gallery`, `comparison.csv`, and, where all costs
    are known, `cost.png`: quality against training time."""
    from stages.compare.charts import cost_chart
    from stages.compare.page import comparison_page

    costs = variant_seconds(record, seconds)
    (folder / "comparison.md").write_text(comparison_markdown(record, seconds), encoding="utf-8")
    (folder / "comparison.html").write_text(comparison_page(record, costs, gallery), encoding="utf-8")
    (folder / "comparison.csv").write_text(cells_csv(record, seconds), encoding="utf-8")
    if all(cost is not None for cost in costs):
        cost_chart(record, costs).savefig(folder / "cost.png", dpi=110)


def variant_seconds(record: Mapping[str, Any], seconds: Seconds) -> list[float | None]:
    """Mean training seconds of each row's evaluations; None where they are not all known."""
    found = []
    for row in record["rows"]:
        own = [seconds.get(c["name"]) for c in record["cells"] if c["values"].items() >= row["variant"].items()]
        known = [value for value in own if value is not None]
        found.append(fmean(known) if known and len(known) == len(own) else None)
    return found


def comparison_markdown(record: Mapping[str, Any], seconds: Seconds) -> str:
    """What was trained, a table of variants for each measure, what its intervals mean, who is best, what each axis is
    worth, how alike the variants are, and every single evaluation with its own interval."""
    parts = [f"# {title(record)}", _markdown(variants_table(record, variant_seconds(record, seconds)))]
    for measure in record["measures"]:
        parts += [f"## {label(measure)}", _markdown(measure_table(record, measure))]
    parts += ["\n".join(f"- {text}" for text in statements(record))]
    parts += [f"## {RANKING} {label(record['measures'][0])}", _markdown(ranking_table(record)), ranking_note(record)]
    if record["main_effects"]:
        parts += [f"## {EFFECTS}", _markdown(effects_table(record)), shares_note(record)]
    if record["similarity"]:
        parts += [f"## {SIMILARITY}", _markdown(similarity_table(record)), similarity_note(record)]
    parts += _pairwise_markdown(record)
    parts += [f"## {EVERY}", _markdown(cells_table(record)), cells_note(record)]
    return "\n\n".join(parts) + "\n"


def _pairwise_markdown(record: Mapping[str, Any]) -> list[str]:
    parts = []
    if record["blind_pairs"]:
        found = record["blind_pairs"]
        parts += [f"## {pairwise_report.BLIND}", _markdown(pairwise_report.blind_table(found))]
        parts += pairwise_report.blind_notes(found)
    if record["memorisation"]:
        found = record["memorisation"]
        parts += [f"## {pairwise_report.MEMORISED}", _markdown(pairwise_report.memorisation_table(found))]
        parts += pairwise_report.memorisation_notes(found)
    return parts


RANKING, EFFECTS = "Ranking by", "What each axis is worth"
SIMILARITY, EVERY = "How alike the features are", "Every evaluation"


def title(record: Mapping[str, Any]) -> str:
    """The axes that are compared."""
    return " × ".join(record["rows"][0]["variant"])


def variants_table(record: Mapping[str, Any], costs: Sequence[float | None]) -> Table:
    """What each variant was trained on, and for how long."""
    rows = [
        [*row["variant"].values(), *("" if n is None else f"{n:,.0f}" for n in (row["images"], row["steps"], cost))]
        for row, cost in zip(record["rows"], costs, strict=True)
    ]
    return [*record["rows"][0]["variant"], "images", "steps", "seconds"], rows


def measure_table(record: Mapping[str, Any], measure: str) -> Table:
    """The variants by a measure, with differences to the baseline."""
    against = ", ".join(f"{axis} {value}" for axis, value in record["baseline"].items())
    rows = [
        [*row["variant"].values(), interval_text(row[measure]), difference_text(row[measure], row["baseline"])]
        for row in record["rows"]
    ]
    return [*record["rows"][0]["variant"], label(measure), f"less that of {against}"], rows


def ranking_table(record: Mapping[str, Any]) -> Table:
    """Who is best by the first measure, and who is told apart from how many."""
    rows = [
        [str(place), *row["variant"].values(), f"{row['mean']:.3f}", str(row["above"]), str(row["below"])]
        for place, row in enumerate(record["ranking"], 1)
    ]
    return ["", *record["rows"][0]["variant"], label(record["measures"][0]), "above", "below"], rows


def ranking_note(record: Mapping[str, Any]) -> str:
    """How to read the ranking."""
    return f"Above and below: how many others a variant differs from beyond chance (paired by {record['repeats']})."


def effects_table(record: Mapping[str, Any]) -> Table:
    """Each level of each axis less the mean of all."""
    effects = record["main_effects"]["effects"]
    rows = [
        [axis, level, with_bounds(row["effect"], row["lo"], row["hi"], sign="+")]
        for axis, levels in effects.items()
        for level, row in levels.items()
    ]
    return ["axis", "level", f"{label(record['measures'][0])} less the mean of all"], rows


def shares_note(record: Mapping[str, Any]) -> str:
    """The analysis of variance in a sentence."""
    shares = record["main_effects"]["shares"].items()
    return f"Shares of the sum of squares: {', '.join(f'{name} {100 * share:.0f} %' for name, share in shares)}."


def similarity_table(record: Mapping[str, Any]) -> Table:
    """The matrix of similarities."""
    found = record["similarity"]
    rows = [
        [name, *("" if value is None else f"{value:.2f}" for value in line)]
        for name, line in zip(found["variants"], found["cka"], strict=True)
    ]
    return ["", *found["variants"]], rows


def similarity_note(record: Mapping[str, Any]) -> str:
    """How to read the matrix."""
    images, repeats = record["similarity"]["images"], record["repeats"]
    return (
        f"Linear CKA (arXiv:1905.00414) of the trained features on {images:,} images, 1 where one is the other turned "
        f"and scaled; mean over trainings of different {repeats}. On the diagonal, a variant's own trainings: what "
        "another one alone changes."
    )


def cells_table(record: Mapping[str, Any]) -> Table:
    """Every evaluation."""
    rows = [
        [*cell["values"].values(), *(_single(cell["metrics"], measure) for measure in record["measures"])]
        for cell in record["cells"]
    ]
    return [*record["cells"][0]["values"], *map(label, record["measures"])], rows


def cells_note(record: Mapping[str, Any]) -> str:
    """What the intervals of single evaluations are."""
    return (
        f"Intervals of single accuracies are Wilson's, over the {record['split']['queries']} queries: they say what "
        f"other queries might give, not what another {record['repeats']} would."
    )


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
    told += pairwise_report.pairwise_statements(record)
    return [*told, *(f"Note: {text}." for text in record["remarks"])]


def label(measure: str) -> str:
    """A measure for a person, behind the name of the evaluation set that it was taken on."""
    of_set, _, name = measure.rpartition("/")
    return f"{of_set} {LABELS.get(name, name)}".strip()


def _single(metrics: Mapping[str, float], measure: str) -> str:
    return with_bounds(metrics[measure], metrics.get(f"{measure}_lo"), metrics.get(f"{measure}_hi"))


def _markdown(table: Table) -> str:
    head, rows = table
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


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
