"""Near neighbours: all pairs of perceptual hashes within a Hamming radius, and k-NN graphs by cosine similarity."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from curation.nearest import Links, near_links, top_links
from curation.row_blocks import Rows, UnitRows, unit_rows

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

_QUERY_BLOCK = 1024

__all__ = ["hamming_pairs", "knn_graph", "search", "similarity_pairs", "undirected", "unit_rows"]


def hamming_pairs(
    hashes: NDArray[np.uint8], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """All pairs of hashes at most `radius` bits apart, exact (faiss IndexBinaryFlat range search).

    hashes: (N, 8) uint8, or any other whole number of bytes. Returns (i, j, distance), each (pairs,), with i < j,
    sorted by (i, j). Equal hashes give pairs too, so a pool with m equal pictures gives m (m - 1) / 2 of them.
    """
    codes = np.ascontiguousarray(hashes, dtype=np.uint8)
    if codes.ndim != 2:
        raise ValueError(f"expected hashes of shape (N, bytes), got {codes.shape}")
    left, right, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for start in range(0, len(codes), _QUERY_BLOCK):
        rest = codes[start:]
        index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
        index.add(rest)
        limits, found, ids = index.range_search(rest[:_QUERY_BLOCK], radius + 1)
        ends = limits.astype(np.int64)
        query = np.repeat(np.arange(len(ends) - 1), ends[1:] - ends[:-1])
        forward = query < ids
        left.append(query[forward] + start)
        right.append(ids[forward] + start)
        distances.append(found[forward].astype(np.int32))
    i, j, distance = np.concatenate(left), np.concatenate(right), np.concatenate(distances)
    order = np.lexsort((j, i))
    return i[order], j[order], distance[order]


def search(queries: Rows, base: Rows, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows of `base` (N, d) most similar to each of `queries` (Q, d) by cosine: exact, deterministic.

    Rows need no normalisation, and may be mapped from files: memory is bounded by blocks of queries. Returns
    (similarities, indices), each (Q, min(k, N)), most similar first, ties by index.
    """
    width = min(k, len(base))
    if width < 1 or not len(queries):
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    units = UnitRows(base)
    links = top_links(units if queries is base else UnitRows(queries), units, width)
    return links.cosines.reshape(-1, width), links.columns.reshape(-1, width)


def knn_graph(embeddings: Rows, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k most similar other rows of every row by cosine, exact.

    embeddings: (N, d), normalised here. Returns (similarities, indices), each (N, min(k, N - 1)), most similar
    first, ties by index.
    """
    count = len(embeddings)
    width = min(k, count - 1)
    if width < 1:
        return np.empty((count, 0), np.float32), np.empty((count, 0), np.int64)
    similarities, indices = search(embeddings, embeddings, width + 1)
    own = indices == np.arange(count)[:, None]
    # Among more than k equal vectors a row may not find itself: its last neighbour goes in its place.
    own[~own.any(axis=1), -1] = True
    return similarities[~own].reshape(count, width), indices[~own].reshape(count, width)


def similarity_pairs(embeddings: Rows, threshold: float, k: int = 64) -> Pairs:
    """Edges of the k-NN graph with cosine similarity >= threshold (arXiv 2304.07193, App. A.3: k = 64), exact.

    embeddings: (N, d), an array or mapped from a file. Returns (i, j, similarity), each (pairs,), with i < j, sorted
    by (i, j), each pair once: j is among the k most similar of i (ties by index), or i among those of j.
    """
    return undirected(near_links(UnitRows(embeddings), threshold, k))


def undirected(links: Links) -> Pairs:
    """The pairs (i, j, similarity) that links in one or both directions join: i < j, sorted, each once."""
    i, j = np.minimum(links.rows, links.columns), np.maximum(links.rows, links.columns)
    _, first = np.unique(np.stack([i, j]), axis=1, return_index=True)
    return i[first], j[first], links.cosines[first]
