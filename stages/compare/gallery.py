"""Sections of the page of a comparison that show pictures: blind pairs, and the images that were memorised most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.page_shell import text_html
from curation.review_page import PageSection, Thumbnails, figures_html, paragraph, table_html
from stages.artifact import Artifact
from stages.charts import Mark, dots_chart
from stages.compare import pairwise_report as words
from stages.compare.blind import Blindness
from stages.compare.memorised import Memorised, Scores
from stages.curate.report.album import Album

STYLE = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 8px; margin: 4px 0 10px; }
.pair { border: 1px solid var(--line); border-radius: 6px; padding: 8px; }
.pair .tiles { margin: 0 0 4px; flex-wrap: nowrap; }
.pair p { margin: 0; font-size: 12px; font-variant-numeric: tabular-nums; }
"""
"""CSS that pages with these sections need."""

_BLIND_BYTES, _MEMORISED_BYTES = 900_000, 400_000
_SIDE, _PAIRS, _TOP = 84, 12, 18
_COLOURS = {"own": "#e0682f", "both": "#2f6fde", "neither": "#8a919e"}


@dataclass(frozen=True)
class Gallery:
    """The sections, and the pictures that they share."""

    sections: list[PageSection]
    thumbnails: Thumbnails


def pairwise_gallery(blind: Blindness | None, memorised: Memorised | None, pool: Artifact | None) -> Gallery:
    """What there is to show. pool: where pictures of blind pairs are; None where the store has lost them."""
    album, sections = Album(Thumbnails(_SIDE)), []
    if blind:
        sections.append(_blind(blind, pool, album))
    if memorised:
        sections.append(_memorisation(memorised, album))
    return Gallery(sections, album.thumbnails)


def _blind(found: Blindness, pool: Artifact | None, album: Album) -> PageSection:
    """Counts of each two models, and of each the pairs with the widest gaps."""
    body = table_html(*words.blind_table(found.record), 2) + "".join(map(paragraph, words.blind_notes(found.record)))
    if pool is None:
        return PageSection("blind", words.BLIND, body + paragraph("The pictures are gone from the store."))
    share = _BLIND_BYTES // len(found.pairs)
    for (blind, seeing), pairs in found.pairs.items():
        shown = found.images[pairs.rows[:_PAIRS]]
        album.put(pool, shown.reshape(-1).tolist(), share)
        cards = "".join(
            _pair(album, ids.tolist(), {blind: pairs.blind[n], seeing: pairs.seeing[n]}) for n, ids in enumerate(shown)
        )
        if cards:
            title = f"{blind} takes for alike what {seeing} sees as different"
            body += f'<h3>{text_html(title)}</h3><div class="pairs">{cards}</div>'
    return PageSection("blind", words.BLIND, body)


def _pair(album: Album, ids: list[str], cosines: Mapping[str, float]) -> str:
    if not all(album.thumbnails.has(image_id) for image_id in ids):
        return ""
    figures = figures_html([album.figure(image_id) for image_id in ids], album.thumbnails)
    lines = "<br>".join(f"<b>{cosine:.2f}</b> by {text_html(name)}" for name, cosine in cosines.items())
    return f'<div class="pair">{figures}<p>{lines}</p></div>'


def _memorisation(found: Memorised, album: Album) -> PageSection:
    """Scores with their intervals, and of each model the images that it alone was trained on and memorised most."""
    table, rows = words.memorisation_table(found.record), _dots(found.record)
    body = _chart(rows) + table_html(*table, 3) if rows else ""
    body += "".join(map(paragraph, words.memorisation_notes(found.record)))
    share = _MEMORISED_BYTES // (2 * max(1, len(found.scores)))
    for scores in found.scores:
        for own in ("first", "second"):
            body += _most_memorised(scores, own, album, share)
    return PageSection("memorisation", words.MEMORISED, body)


def _most_memorised(scores: Scores, own: str, album: Album, share: int) -> str:
    trained, reference = (scores.first, scores.second) if own == "first" else (scores.second, scores.first)
    values = scores.values if own == "first" else -scores.values
    rows = np.flatnonzero(scores.kinds == own)
    rows = rows[np.argsort(-values[rows], kind="stable")][:_TOP]
    album.put(trained.pool, [scores.ids[row] for row in rows], share)
    figures = [album.figure(scores.ids[row], f"{values[row]:+.2f}") for row in rows]
    if not figures:
        return ""
    title = f"Memorised most by {trained.name}, of what {reference.name} was not trained on"
    return f"<h3>{text_html(title)}</h3>{figures_html(figures, album.thumbnails)}"


def _dots(found: Mapping[str, Any]) -> list[tuple[str, list[Mark]]]:
    """A row for each kind of images and each way of each two models."""
    ways = [way for pair in found["pairs"] for way in pair.get("directions", ())]
    several = len({way["reference"] for way in ways}) > 2
    return [
        (
            f"{way['trained']}{' against ' + way['reference'] if several else ''}: {words.KINDS[group['kind']]}",
            [Mark(group["mean"], group["lo"], group["hi"], _COLOURS[group["kind"]])],
        )
        for way in ways
        for group in way["groups"]
    ]


def _chart(rows: list[tuple[str, list[Mark]]]) -> str:
    """On a scale with 0 in its middle."""
    ends = [abs(end) for _, marks in rows for mark in marks for end in (mark.low, mark.high, mark.value) if end]
    reach = max(ends, default=1.0)
    return dots_chart(rows, -reach, reach, "{:.2g}")
