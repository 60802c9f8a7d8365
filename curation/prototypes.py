"""How prototypical an item is, for the second step of D4: semantic dedup, then fewer of the most prototypical items.

SSL prototypes (Sorscher et al., arXiv 2206.14486, section 5.2): an item near the centroid of its spherical k-means
cluster is an easy, common one, and of a large pool those can go first. D4 (Tirumala et al., arXiv 2308.12284): drop
semantic duplicates, cluster what is left again, since dense groups of duplicates draw centroids to themselves, and
drop the most prototypical share of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.kmeans import KMeans, kmeans
from curation.nearest import exact_cosines
from curation.row_blocks import Rows, UnitRows, unit_rows


def prototypical_rows(
    embeddings: Rows,
    ids: Sequence[str],
    inside: NDArray[np.bool_],
    *,
    clusters: int,
    share: float,
    seed: int,
    iterations: int = 50,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Cluster the rows `inside` (N,) anew; of these the floor(share * rows) closest to their centroid, ties by id.

    embeddings: (N, d). ids: N distinct ids. clusters: fewer where fewer rows are inside. Returns an (N,) mask, and
    each row's cosine to its centroid, NaN outside; neither depends on the order of rows.
    Raises ValueError for a share out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"a prototypical share of {share:g} is not at least 0 and below 1")
    mask, cosine = np.zeros(len(ids), np.bool_), np.full(len(ids), np.nan, np.float32)
    rows = np.flatnonzero(inside)
    if len(rows):
        names, vectors = np.asarray(ids, np.str_)[rows], embeddings[rows]
        found = cluster_by_id(vectors, names.tolist(), clusters, seed=seed, iterations=iterations)
        units, centres = UnitRows(vectors), UnitRows(found.centroids)
        cosine[rows] = exact_cosines(units, centres, np.arange(len(rows)), found.labels)
        mask[rows[np.lexsort((names, -cosine[rows]))[: int(share * len(rows))]]] = True
    return mask, cosine


def cluster_by_id(
    embeddings: NDArray[np.generic], ids: Sequence[str], clusters: int, *, seed: int, iterations: int = 50
) -> KMeans:
    """Spherical k-means of unit rows that does not depend on their order: they are taken in the order of their ids.

    embeddings: (N, d), N >= 1. clusters: at most N are made. Labels and distances are in the order of the rows given.
    """
    order = np.argsort(np.asarray(ids, np.str_), kind="stable")
    units = unit_rows(np.asarray(embeddings)[order])
    found = kmeans(units, min(clusters, len(units)), seed=seed, iterations=iterations, spherical=True)
    back = np.argsort(order, kind="stable")
    return KMeans(found.centroids, found.labels[back], found.distances[back])
