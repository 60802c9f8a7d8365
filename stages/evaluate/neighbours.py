"""A page of queries with their nearest pictures in the learned space and in the untrained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.review_page import Figure, PageSection, Thumbnails, figures_html, page_html, paragraph, table_html
from stages.artifact import Artifact
from stages.charts import STYLE
from stages.curate.report.album import Album
from stages.evaluate.split import Split, first_by_hash
from stages.pictures import Picture, read_pictures
from training.evaluation.knn import nearest

_QUERIES = 36
_MOST_QUERIES = 72
_NEIGHBOURS = 6
_SPACES = ("trained", "untrained")
_BUDGET = 1_200_000
_STYLE = (
    STYLE
    + """
.query { display: flex; gap: 8px; padding: 6px 0; border-top: 1px solid var(--line); }
.query .tiles { margin: 0 0 4px; gap: 4px; }
.query small { color: var(--soft); }
.query figcaption { -webkit-line-clamp: 3; }
"""
)

Hit = tuple[str, float]


@dataclass(frozen=True)
class _Query:
    """A query with its neighbours, nearest first, by space; same: how many of them have its class."""

    image_id: str
    hits: Mapping[str, list[Hit]]
    same: Mapping[str, int]

    @property
    def gain(self) -> int:
        return self.same["trained"] - self.same["untrained"]


def neighbours_page(images: Artifact, split: Split, features: Mapping[str, NDArray[np.float32]], seed: int) -> str:
    """The HTML page. Without labels, pictures of the sample stand in for queries."""
    asked = _chosen_queries(split, seed)
    queries = _found(split, features, asked)
    pictures = read_pictures(images, {i for query in queries for i in [query.image_id, *_ids(query)]})
    album = Album(Thumbnails())
    album.put(images, [i for query in queries for i in [query.image_id, *_ids(query)]], _BUDGET)
    sections = [
        PageSection(key, title, _rows(chosen, pictures, album, split.labelled))
        for key, title, chosen in _groups(queries, split.labelled)
        if chosen
    ]
    note = (
        "Each row: the query, then its nearest pictures of the training set by cosine, above in the trained space, "
        "below in the same network untrained."
        + (" Neighbours of another class are marked ✗." if split.labelled else "")
    )
    lead = paragraph(note) + (_shares(queries) if split.labelled and queries else "")
    return page_html("Nearest neighbours, trained and untrained", lead, sections, album.thumbnails, _STYLE)


def _found(split: Split, features: Mapping[str, NDArray[np.float32]], asked: Sequence[str]) -> list[_Query]:
    position = {image_id: row for row, image_id in enumerate([*split.bank, *split.queries])}
    taken = set(asked)
    bank = [image_id for image_id in split.bank if image_id not in taken]
    labels = dict(zip([*split.bank, *split.queries], [*split.bank_labels, *split.query_labels], strict=False))
    hits: dict[str, dict[str, list[Hit]]] = {query: {} for query in asked}
    for space in _SPACES if bank and asked else ():
        known, new = ([position[i] for i in ids] for ids in (bank, asked))
        order, similarity = nearest(features[space][known], features[space][new], _NEIGHBOURS)
        for query, row, values in zip(asked, order, similarity, strict=True):
            hits[query][space] = [(bank[n], float(s)) for n, s in zip(row, values, strict=True)]
    return [
        _Query(
            query,
            found,
            {space: sum(labels.get(i) == labels.get(query) for i, _ in own) for space, own in found.items()},
        )
        for query, found in hits.items()
        if found
    ]


def _chosen_queries(split: Split, seed: int) -> list[str]:
    """Some queries of every class, as even as may be; class after class."""
    if not split.labelled:
        return first_by_hash(split.bank, min(_QUERIES, len(split.bank) // 2), seed)
    share = max(1, _QUERIES // len(split.classes))
    chosen = []
    for c in range(len(split.classes)):
        of_class = [i for i, label in zip(split.queries, split.query_labels, strict=True) if label == c]
        chosen += first_by_hash(of_class, share, seed)
    return chosen[:_MOST_QUERIES]


def _ids(query: _Query) -> list[str]:
    return [i for hits in query.hits.values() for i, _ in hits]


def _groups(queries: Sequence[_Query], labelled: bool) -> list[tuple[str, str, list[_Query]]]:
    """Queries by what training did to their neighbours, those that it changed most first."""
    if not labelled:
        return [("queries", "Queries", list(queries))]
    ranked = sorted(queries, key=lambda query: (-abs(query.gain), query.image_id))
    return [
        ("better", "Better after training", [query for query in ranked if query.gain > 0]),
        ("worse", "Worse after training", [query for query in ranked if query.gain < 0]),
        ("alike", "As many of the same class", [query for query in ranked if query.gain == 0]),
    ]


def _shares(queries: Sequence[_Query]) -> str:
    """How many of the neighbours shown have the query's class."""
    shown = sum(len(query.hits["trained"]) for query in queries)
    rows = [
        [space, f"{same:,} of {shown:,}", f"{same / shown:.3f}"]
        for space in _SPACES
        for same in [sum(query.same[space] for query in queries)]
    ]
    return table_html(["", "neighbours of the same class", "share"], rows)


def _rows(queries: Sequence[_Query], pictures: Mapping[str, Picture], album: Album, labelled: bool) -> str:
    return f'<div class="beside">{"".join(_row(query, pictures, album, labelled) for query in queries)}</div>'


def _row(query: _Query, pictures: Mapping[str, Picture], album: Album, labelled: bool) -> str:
    asked = pictures[query.image_id]
    words = f"query: {asked.label or ''}"
    lines = "".join(
        f"<small>{space}{_of_class(query, space) if labelled else ''}</small>"
        + figures_html([_figure(hit, asked, pictures, album, labelled) for hit in hits], album.thumbnails)
        for space, hits in query.hits.items()
    )
    own = figures_html([album.figure(query.image_id, words)], album.thumbnails)
    return f'<div class="query">{own}<div>{lines}</div></div>'


def _of_class(query: _Query, space: str) -> str:
    return f": {query.same[space]} of {len(query.hits[space])} of the same class"


def _figure(hit: Hit, asked: Picture, pictures: Mapping[str, Picture], album: Album, labelled: bool) -> Figure:
    image_id, similarity = hit
    text = f"{similarity:.2f}"
    if not labelled:
        return album.figure(image_id, text)
    found = pictures[image_id]
    same = found.label == asked.label
    return album.figure(image_id, f"{text} {'✓' if same else '✗'} {found.label}", "good" if same else "bad")
