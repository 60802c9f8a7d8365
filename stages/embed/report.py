"""What a person judges an embedder by: nearest neighbours of a few images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curation.galleries import Section, Tile, gallery_html
from curation.neighbours import unit_rows
from curation.sampling import id_keys
from stages.pictures import read_pictures
from stages.vectors import read_vectors

if TYPE_CHECKING:
    from stages.base import StageContext
    from stages.embed import EmbedParams

_QUERIES, _NEIGHBOURS = 24, 6


def neighbours_gallery(ctx: StageContext[EmbedParams]) -> None:
    """Write `report/neighbours.html`: for a fixed sample of images, the most similar others with their cosine."""
    ids, vectors = read_vectors(ctx.work)
    queries = np.argsort(id_keys(ids, 0, "neighbours gallery"), kind="stable")[:_QUERIES]
    similarities = unit_rows(vectors[queries]) @ unit_rows(vectors).T
    similarities[np.arange(len(queries)), queries] = -np.inf
    count = min(_NEIGHBOURS, len(ids) - 1)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    pictures = read_pictures(ctx.inputs["images"], [ids[row] for row in {*queries.tolist(), *order.ravel().tolist()}])
    sections = []
    for row, query in enumerate(queries):
        head = pictures[ids[query]]
        tiles = [Tile(head.bytes, f"query: {head.caption or head.label or ids[query][:10]}", False, head.orientation)]
        for neighbour in order[row]:
            found = pictures[ids[neighbour]]
            text = f"{similarities[row, neighbour]:.2f} {found.caption or found.label or ids[neighbour][:10]}"
            tiles.append(Tile(found.bytes, text, False, found.orientation))
        sections.append(Section(head.caption or head.label or ids[query][:10], tiles))
    note = f"Model {ctx.params.model}: the first picture of each row is the query, then the most similar by cosine."
    (ctx.report / "neighbours.html").write_text(
        gallery_html("Nearest neighbours in embedding space", sections, note), encoding="utf-8"
    )
