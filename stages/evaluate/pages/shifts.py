"""The section on changed pictures: corruptions, less resolution, tighter crops, invariances, a telling mark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curation.review_page import PageSection, paragraph, table_html
from stages.charts import Mark, dots_chart, heat_table
from stages.evaluate.pages.contestants import COLOURS, key_html
from training.evaluation.corruptions.catalogue import CORRUPTIONS

_BACKBONES = ("trained", "untrained")
_GRADED = re.compile(r"(.+)_(\d+)$")
_SHORTCUT = ("clean", "aligned", "unmarked", "conflicting", "fooled")

Row = Mapping[str, Any]


def shifts_section(tables: Mapping[str, Any]) -> PageSection | None:
    """Of `robustness` in the record: what each change costs the linear probe that was fitted on clean pictures."""
    body = "".join(_corruptions(name, tables[name]) for name in _BACKBONES if tables.get(name))
    body += _errors(tables.get("corruption_error", {})) + _others(tables.get("trained", []))
    body += _invariance(tables.get("invariance", {})) + _shortcut(tables.get("shortcut", {}))
    body += _self_learning(tables.get("self_learning", {}))
    if not body:
        return None
    note = f"{tables.get('images', 0)} held-out pictures, changed; the linear probe was fitted on clean ones."
    return PageSection("robustness", "Changed pictures", paragraph(note) + body)


def _corruptions(contestant: str, rows: Sequence[Row]) -> str:
    """Accuracy by corruption and strength."""
    clean = next((row["accuracy"] for row in rows if row["name"] == "clean"), None)
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        graded = _GRADED.match(row["name"])
        if graded and graded[1] in CORRUPTIONS:
            found.setdefault(graded[1], {})[int(graded[2])] = row["accuracy"]
    if not found or clean is None:
        return ""
    strengths = sorted({strength for own in found.values() for strength in own})
    table = heat_table(
        [name.replace("_", " ") for name in found],
        [f"{strength}" for strength in strengths],
        [[own.get(strength) for strength in strengths] for own in found.values()],
        low=0,
        high=max(clean, *(value for own in found.values() for value in own.values())),
    )
    return f"<h3>{contestant}: accuracy by corruption and strength, {clean:.2f} on clean pictures</h3>{table}"


def _errors(by_corruption: Mapping[str, float]) -> str:
    """Errors over the untrained backbone's, corruption by corruption."""
    found = {name: error for name, error in by_corruption.items() if error is not None}
    if not found:
        return ""
    rows = [(name.replace("_", " "), [Mark(error, None, None, COLOURS["trained"])]) for name, error in found.items()]
    note = paragraph("Left of 1: fewer errors than the untrained backbone makes of the same pictures.")
    return f"<h3>Errors over those of the untrained backbone</h3>{note}{dots_chart(rows, 0, max(2, *found.values()))}"


def _others(rows: Sequence[Row]) -> str:
    listed = [
        [
            row["name"].replace("_", " "),
            f"{row['accuracy']:.3f} ({row['interval'][0]:.3f} .. {row['interval'][1]:.3f})",
            f"{row['drop']:+.3f} ({row['drop_interval'][0]:+.3f} .. {row['drop_interval'][1]:+.3f})",
            f"{100 * row['same']:.0f} %",
        ]
        for row in rows
        if not (graded := _GRADED.match(row["name"])) or graded[1] not in CORRUPTIONS
    ]
    if len(listed) < 2:
        return ""
    table = table_html(["trained", "accuracy", "lost", "same answer"], listed)
    return f"<h3>Less resolution (side in px) and tighter crops (share of the side)</h3>{table}"


def _invariance(by_contestant: Mapping[str, Mapping[str, Row]]) -> str:
    if not by_contestant:
        return ""
    names = list(next(iter(by_contestant.values())))
    rows = [
        (
            name.replace("_", " "),
            [
                Mark(own[name]["firing"], own[name]["interval"][0], own[name]["interval"][1], COLOURS[contestant])
                for contestant, own in by_contestant.items()
                if name in own
            ],
        )
        for name in names
    ]
    note = paragraph(
        "Of the most invariant units: in what share of the changed copies a unit that fires for a picture still does."
    )
    return f"<h3>Invariance</h3>{note}{key_html(list(by_contestant))}{dots_chart(rows, 0, 1)}"


def _shortcut(by_contestant: Mapping[str, Row]) -> str:
    if not by_contestant:
        return ""
    named = [name for name in _SHORTCUT if name in next(iter(by_contestant.values()))]
    rows = []
    for contestant, own in by_contestant.items():
        low, high = own["reliance_interval"]
        told = f"{own['reliance']:.3f} ({low:.3f} .. {high:.3f})"
        rows.append([contestant, told, *(f"{own[name]:.3f}" for name in named)])
    note = paragraph(
        "A probe learns from pictures whose mark gives the class away. Reliance: its accuracy with marks of the own "
        "class (aligned) minus that with marks of another (conflicting)."
    )
    return f"<h3>Shortcut</h3>{note}{table_html(['', 'reliance', *named], rows)}"


def _self_learning(by_shift: Mapping[str, Row]) -> str:
    if not by_shift:
        return ""
    rows = [
        [name.replace("_", " "), f"{own['before']:.3f}", f"{own['after']:.3f}", f"{own['gain']:+.3f}"]
        for name, own in by_shift.items()
    ]
    note = paragraph("A classifier goes on learning from shifted pictures by its own answers, without labels.")
    return f"<h3>Self-learning</h3>{note}{table_html(['shift', 'before', 'after', 'gain'], rows)}"
