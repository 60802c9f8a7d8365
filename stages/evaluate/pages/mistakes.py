"""`mistakes.html`: which classes are taken for which, the hardest images, and what training won and lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.page_shell import text_html
from curation.review_page import Figure, PageSection, Thumbnails, figures_html, page_html, paragraph, table_html
from stages.charts import STYLE, heat_table
from stages.curate.report.album import Album
from stages.evaluate.evaluated import Evaluated

_CLASSES = 40
_NUMBERED = 16
_PAIRS, _OF_PAIR = 10, 6
_HARDEST = 42
_CHANGED = 21
_SIDE = 70
_STYLE = STYLE + "figcaption { -webkit-line-clamp: 4; }"
_BUDGET = 450_000
"""Bytes that the pictures of each section may take, of 2 MB."""


@dataclass(frozen=True)
class _Answers:
    """What the linear probes say of the queries. sure: (Q,) probability of the answer; true: of the true class."""

    truth: NDArray[np.int64]
    said: NDArray[np.int64]
    sure: NDArray[np.float64]
    true: NDArray[np.float64]
    before: NDArray[np.int64]


def mistakes_page(evaluated: Evaluated) -> str:
    """The HTML page, of the linear probe on the trained backbone. Needs labels."""
    answers = _answers(evaluated)
    album = Album(Thumbnails(_SIDE))
    sections = [
        PageSection("confusion", "Confusion", _confusion(evaluated)),
        PageSection("pairs", "Taken for each other", _pairs(evaluated, answers, album)),
        PageSection("hardest", "Hardest images", _hardest(evaluated, answers, album)),
        PageSection("changed", "Won and lost", _changed(evaluated, answers, album)),
    ]
    wrong, count = int((answers.said != answers.truth).sum()), len(answers.truth)
    lead = paragraph(f"The linear probe on the trained backbone is wrong on {wrong:,} of {count:,} held-out images.")
    return page_html("Mistakes", lead, sections, album.thumbnails, _STYLE)


def _answers(evaluated: Evaluated) -> _Answers:
    truth = np.array(evaluated.split.query_labels, dtype=np.int64)
    trained = evaluated.predictions["trained"]
    p, rows = trained.probabilities, np.arange(len(truth))
    return _Answers(
        truth, trained.linear, p[rows, trained.linear], p[rows, truth], evaluated.predictions["untrained"].linear
    )


def _confusion(evaluated: Evaluated) -> str:
    """A table for each probe, rows in shares of the true class."""
    body = ""
    for probe in ("linear", "knn"):
        counts = np.array(evaluated.record["confusion"][probe])
        keep = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_CLASSES])
        totals = counts[keep].sum(axis=1)
        shares = counts[np.ix_(keep, keep)] / np.maximum(totals[:, None], 1)
        names = [evaluated.split.classes[c] for c in keep]
        left = f", the {len(keep)} largest of {len(counts)} classes" if len(keep) < len(counts) else ""
        table = heat_table(
            [f"{name} ({total})" for name, total in zip(names, totals, strict=True)],
            names,
            [[share or None for share in row] for row in shares.tolist()],
            low=0,
            high=1,
            labels="{:.2f}" if len(keep) <= _NUMBERED else "",
            turned=True,
        )
        body += f"<h3>{'Linear probe' if probe == 'linear' else 'kNN'}{left}</h3>{table}"
    note = "Rows: the true class with its number of queries. Columns: what the probe says, as a share of the row."
    return paragraph(note) + body


def _pairs(evaluated: Evaluated, answers: _Answers, album: Album) -> str:
    """The commonest mistakes, each with some of its images."""
    split = evaluated.split
    mistakes = Counter((int(t), int(s)) for t, s in zip(answers.truth, answers.said, strict=True) if t != s)
    ranked = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))[:_PAIRS]
    if not ranked:
        return paragraph("No image is taken for one of another class.")
    body = ""
    for (true, said), count in ranked:
        rows = np.flatnonzero((answers.truth == true) & (answers.said == said))
        rows = rows[np.argsort(-answers.sure[rows], kind="stable")][:_OF_PAIR]
        album.put(evaluated.images, [split.queries[row] for row in rows], _BUDGET // _PAIRS)
        total = int((answers.truth == true).sum())
        figures = figures_html(
            [album.figure(split.queries[row], f"{answers.sure[row]:.2f}", "bad") for row in rows], album.thumbnails
        )
        body += f"<h3>{_name(evaluated, true)} taken for {_name(evaluated, said)}: {count} of {total}</h3>{figures}"
    return body


def _hardest(evaluated: Evaluated, answers: _Answers, album: Album) -> str:
    rows = np.argsort(answers.true, kind="stable")
    rows = rows[answers.said[rows] != answers.truth[rows]][:_HARDEST]
    album.put(evaluated.images, [evaluated.split.queries[row] for row in rows], _BUDGET)
    note = paragraph(
        "Held-out images whose true class gets the least probability: how sure the probe is of what, and "
        "the class. Wrong labels show here first."
    )
    return note + figures_html([_figure(evaluated, answers, album, int(row)) for row in rows], album.thumbnails)


def _changed(evaluated: Evaluated, answers: _Answers, album: Album) -> str:
    """Right before and after training, as a table, and images that only one of the two gets right."""
    right, before = answers.said == answers.truth, answers.before == answers.truth
    table = table_html(
        ["", "trained right", "trained wrong"],
        [
            ["untrained right", f"{(right & before).sum():,}", f"{(~right & before).sum():,}"],
            ["untrained wrong", f"{(right & ~before).sum():,}", f"{(~right & ~before).sum():,}"],
        ],
    )
    body = table
    for title, chosen, order in (
        ("Won: right after training alone, the surest first", right & ~before, -answers.true),
        ("Lost: right before training alone", ~right & before, answers.true),
    ):
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(order[rows], kind="stable")][:_CHANGED]
        album.put(evaluated.images, [evaluated.split.queries[row] for row in rows], _BUDGET // 2)
        figures = [_figure(evaluated, answers, album, int(row)) for row in rows]
        if figures:
            body += f"<h3>{title}</h3>{figures_html(figures, album.thumbnails)}"
    return body


def _figure(evaluated: Evaluated, answers: _Answers, album: Album, row: int) -> Figure:
    true, said = (str(evaluated.split.classes[c]) for c in (answers.truth[row], answers.said[row]))
    text = f"{answers.sure[row]:.2f} {said}" + ("" if true == said else f", is {true}")
    return album.figure(evaluated.split.queries[row], text, "good" if true == said else "bad")


def _name(evaluated: Evaluated, number: int) -> str:
    return text_html(evaluated.split.classes[number])
