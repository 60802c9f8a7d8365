"""A page of queries with their nearest pictures in the learned space and in the untrained one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from curation.galleries import Section, Tile, gallery_html
from stages.artifact import Artifact
from stages.evaluate.split import Split, first_by_hash
from stages.pictures import Picture, read_pictures
from training.evaluation.knn import nearest

_QUERIES = 30
_NEIGHBOURS = 6
_SPACES = ("trained", "untrained")

Hits = Mapping[str, list[tuple[str, float]]]


def neighbours_page(images: Artifact, split: Split, features: Mapping[str, NDArray[np.float32]], seed: int) -> str:
    """The HTML page. Without labels, pictures of the sample stand in for queries."""
    position = {image_id: row for row, image_id in enumerate([*split.bank, *split.queries])}
    queries = _chosen_queries(split, seed)
    taken = set(queries)
    bank = [image_id for image_id in split.bank if image_id not in taken]
    bank_rows, query_rows = [position[i] for i in bank], [position[i] for i in queries]
    hits: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for space in _SPACES:
        order, similarity = nearest(features[space][bank_rows], features[space][query_rows], _NEIGHBOURS)
        hits[space] = {
            query: [(bank[n], float(s)) for n, s in zip(row, values, strict=True)]
            for query, row, values in zip(queries, order, similarity, strict=True)
        }
    shown = {i for space in _SPACES for found in hits[space].values() for i, _ in found} | taken
    pictures = read_pictures(images, shown)
    sections = [_section(pictures, query, {space: hits[space][query] for space in _SPACES}) for query in queries]
    note = (
        "Each section: the query, then its nearest pictures of the training set by cosine in the trained space, then "
        "in the same network untrained." + (" Neighbours of another class are marked ✗." if split.labelled else "")
    )
    return gallery_html("Nearest neighbours, trained and untrained", sections, note=note)


def _chosen_queries(split: Split, seed: int) -> list[str]:
    """Some queries of every class, as even as may be; class after class."""
    if not split.labelled:
        return first_by_hash(split.bank, min(_QUERIES, len(split.bank) // 2), seed)
    share = max(1, _QUERIES // len(split.classes))
    chosen = []
    for c in range(len(split.classes)):
        of_class = [i for i, label in zip(split.queries, split.query_labels, strict=True) if label == c]
        chosen += first_by_hash(of_class, share, seed)
    return chosen[: 4 * _QUERIES]


def _section(pictures: Mapping[str, Picture], query: str, hits: Hits) -> Section:
    asked = pictures[query]
    tiles = [Tile(asked.bytes, f"query: {asked.caption or asked.label or query[:8]}", orientation=asked.orientation)]
    right = []
    for space in _SPACES:
        for image_id, similarity in hits[space]:
            found = pictures[image_id]
            tiles.append(Tile(found.bytes, _caption(space, similarity, asked, found), orientation=found.orientation))
        same = [pictures[i].label == asked.label for i, _ in hits[space]]
        right.append(f"{space} {sum(same)} of {len(same)}")
    if asked.label is None:
        return Section(asked.caption or query[:12], tiles)
    return Section(f"{asked.label}: {asked.caption or query[:12]}", tiles, f"Same class: {', '.join(right)}")


def _caption(space: str, similarity: float, asked: Picture, found: Picture) -> str:
    text = f"{space} {similarity:.2f}"
    if asked.label is None:
        return text
    return f"{text} {'✓' if found.label == asked.label else '✗'} {found.label}"
