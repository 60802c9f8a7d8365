"""A comparison as one HTML page: a chart and a table for each measure, ranking, axes, similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.review_page import PageSection, Thumbnails, page_html, paragraph, table_html
from stages.charts import STYLE, Mark, dots_chart, heat_table
from stages.compare import gallery as pictures
from stages.compare import report

_BLUE, _GREY, _ORANGE = "#2f6fde", "#8a919e", "#e0682f"


def comparison_page(
    record: Mapping[str, Any], costs: Sequence[float | None], gallery: pictures.Gallery | None = None
) -> str:
    """The page. costs: mean training seconds of each row. gallery: what has pictures."""
    axes = len(record["rows"][0]["variant"])
    told = [
        *report.statements(record),
        f"In the charts: blue, a mean with its interval; grey, each {record['repeats']}.",
    ]
    trained = _table(report.variants_table(record, costs), axes) + "".join(map(paragraph, told))
    sections = [
        PageSection("trained", "Trained", trained),
        *(_measure(record, measure, axes) for measure in record["measures"]),
        _ranking(record, axes),
    ]
    if record["main_effects"]:
        sections.append(PageSection("effects", report.EFFECTS, _effects(record)))
    if record["similarity"]:
        sections.append(PageSection("similarity", report.SIMILARITY, _similarity(record)))
    sections += gallery.sections if gallery else []
    cells = _table(report.cells_table(record), axes + 1) + paragraph(report.cells_note(record))
    sections.append(PageSection("cells", report.EVERY, cells))
    thumbnails = gallery.thumbnails if gallery else Thumbnails()
    return page_html(f"Comparison: {report.title(record)}", "", sections, thumbnails, STYLE + pictures.STYLE)


def _table(table: report.Table, numeric_from: int) -> str:
    return table_html(*table, numeric_from)


def _name(row: Mapping[str, Any]) -> str:
    return " ".join(row["variant"].values())


def _measure(record: Mapping[str, Any], measure: str, axes: int) -> PageSection:
    """Means with their intervals and every repetition, then the paired differences."""
    rows = record["rows"]
    singles = {
        _name(row): [c["metrics"][measure] for c in record["cells"] if c["values"].items() >= row["variant"].items()]
        for row in rows
    }
    values = [(_name(row), [_mark(row[measure]), *_dots(singles[_name(row)])]) for row in rows]
    body = _dots_chart(values)
    differences = [(_name(r), [_mark(r[measure], "difference")]) for r in rows if "difference" in r[measure]]
    if differences:
        against = " ".join(record["baseline"].values())
        body += paragraph(f"Paired differences to {against}:") + _dots_chart([*differences, (against, [_ZERO])])
    body += _table(report.measure_table(record, measure), axes)
    return PageSection(measure.replace("/", "-"), report.label(measure), body)


_ZERO = Mark(0.0, None, None, _GREY)


def _mark(statistics: Mapping[str, Any], name: str = "mean", colour: str = _BLUE) -> Mark:
    ends = ("lo", "hi") if name in ("mean", "effect") else (f"{name}_lo", f"{name}_hi")
    return Mark(statistics[name], statistics[ends[0]], statistics[ends[1]], colour)


def _dots(values: Sequence[float]) -> list[Mark]:
    return [Mark(value, None, None, _GREY) for value in values] if len(values) > 1 else []


def _dots_chart(rows: Sequence[tuple[str, Sequence[Mark]]]) -> str:
    """On a scale that holds every value, and every interval that is not much wider than the values are apart."""
    marks = [mark for _, found in rows for mark in found]
    values = [mark.value for mark in marks]
    room = 2 * (max(values) - min(values)) or abs(values[0]) or 1.0
    ends = [end for mark in marks for end in (mark.low, mark.high) if end is not None]
    low = max(min([*values, *ends]), min(values) - room)
    high = min(max([*values, *ends]), max(values) + room)
    if low == high:
        low, high = low - room / 2, high + room / 2
    return dots_chart(rows, low, high, "{:.3g}")


def _ranking(record: Mapping[str, Any], axes: int) -> PageSection:
    body = _table(report.ranking_table(record), axes + 1) + paragraph(report.ranking_note(record))
    return PageSection("ranking", f"{report.RANKING} {report.label(record['measures'][0])}", body)


def _effects(record: Mapping[str, Any]) -> str:
    rows = [
        (f"{axis} {level}", [_mark(row, "effect", _ORANGE)])
        for axis, levels in record["main_effects"]["effects"].items()
        for level, row in levels.items()
    ]
    return _dots_chart(rows) + _table(report.effects_table(record), 2) + paragraph(report.shares_note(record))


def _similarity(record: Mapping[str, Any]) -> str:
    found = record["similarity"]
    heat = heat_table(found["variants"], found["variants"], found["cka"], low=0.0, high=1.0, turned=True)
    return heat + paragraph(report.similarity_note(record))
