"""The section with every class: accuracy with intervals before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.review_page import PageSection, paragraph, table_html
from stages.charts import Mark, dots_chart
from stages.evaluate.pages.contestants import COLOURS, key_html
from training.evaluation.intervals import Interval, wilson_interval

_DRAWN = 40
_LISTED = 500
_BACKBONES = ("trained", "untrained")

Row = Mapping[str, Any]


def classes_section(rows: Sequence[Row]) -> PageSection | None:
    """A mark for each of the worst and best classes, and a table of all, worst first."""
    known = sorted(
        (row for row in rows if row.get("knn_trained") is not None), key=lambda row: (row["knn_trained"], row["name"])
    )
    if not known:
        return None
    drawn = known if len(known) <= _DRAWN else [*known[: _DRAWN // 2], *known[-_DRAWN // 2 :]]
    chart = dots_chart([(str(row["name"]), _marks(row)) for row in drawn], 0, 1)
    which = "every class" if len(drawn) == len(known) else f"the worst and the best {_DRAWN // 2} classes"
    note = paragraph(f"kNN accuracy of {which} with Wilson's 95 % intervals, worst first.")
    table = table_html(
        ["class", "train", "queries", "kNN", "untrained", "linear", "untrained"],
        [
            [
                row["name"],
                row["bank"],
                row["queries"],
                *(_words(row, p, c) for p in ("knn", "linear") for c in _BACKBONES),
            ]
            for row in known[:_LISTED]
        ],
    )
    more = paragraph(f"{len(known) - _LISTED} better classes are in per_class.csv.") if len(known) > _LISTED else ""
    return PageSection("classes", "Classes", note + key_html(_BACKBONES) + chart + table + more)


def class_interval(row: Row, column: str) -> Interval:
    """Wilson's interval of a class's accuracy over its queries."""
    return wilson_interval(round(row[column] * row["queries"]), row["queries"])


def _marks(row: Row) -> list[Mark]:
    columns = {name: f"knn_{name}" for name in _BACKBONES}
    return [
        Mark(row[column], *class_interval(row, column), COLOURS[name])
        for name, column in columns.items()
        if row.get(column) is not None
    ]


def _words(row: Row, probe: str, contestant: str) -> str:
    column = f"{probe}_{contestant}"
    if row.get(column) is None:
        return ""
    low, high = class_interval(row, column)
    return f"{row[column]:.2f} ({low:.2f} .. {high:.2f})".replace("0.", ".")
