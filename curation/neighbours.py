"""Near neighbours: all pairs of perceptual hashes within a Hamming radius, and k-NN graphs by cosine similarity."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

_QUERY_BLOCK = 4096
_SLACK = 1e-3


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
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    left, right, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for start in range(0, len(codes), _QUERY_BLOCK):
        block = codes[start : start + _QUERY_BLOCK]
        limits, found, ids = index.range_search(block, radius + 1)
        query = np.repeat(
            np.arange(start, start + len(block)), limits[1:].astype(np.int64) - limits[:-1].astype(np.int64)
        )
        forward = query < ids
        left.append(query[forward])
        right.append(ids[forward].astype(np.int64))
        distances.append(found[forward].astype(np.int32))
    i, j, distance = np.concatenate(left), np.concatenate(right), np.concatenate(distances)
    order = np.lexsort((j, i))
    return i[order], j[order], distance[order]


def unit_rows(embeddings: NDArray[np.generic]) -> NDArray[np.float32]:
    """Rows scaled to length 1 in float32, (N, d); rows of zeros stay zero."""
    rows = np.asarray(embeddings, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.where(lengths > 0, lengths, 1))


def knn_graph(embeddings: NDArray[np.generic], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k most similar other rows of every row by cosine (faiss IndexFlatIP, exact).

    embeddings: (N, d), normalised here. Returns (similarities, indices), each (N, min(k, N - 1)), most similar
    first, ties by index.
    """
    rows = unit_rows(embeddings)
    count = len(rows)
    width = min(k, count - 1)
    if width < 1:
        return np.empty((count, 0), np.float32), np.empty((count, 0), np.int64)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    similarities, indices = index.search(rows, width + 1)
    own = indices == np.arange(count)[:, None]
    # Among more than k equal vectors a row may not find itself: its last neighbour goes in its place.
    own[~own.any(axis=1), -1] = True
    similarities = similarities[~own].reshape(count, width)
    indices = indices[~own].reshape(count, width).astype(np.int64)
    order = np.lexsort((indices, -similarities), axis=1)
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(indices, order, 1)


def cosines(embeddings: NDArray[np.generic], i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosine similarity of the row pairs (i, j), summed in float64 one pair at a time.

    A pair's value depends on its two rows alone, unlike the last bits of a matrix product's entries.
    """
    rows = unit_rows(embeddings)
    values = np.empty(len(i), np.float32)
    for start in range(0, len(i), _QUERY_BLOCK):
        block = slice(start, start + _QUERY_BLOCK)
        left, right = rows[i[block]].astype(np.float64), rows[j[block]].astype(np.float64)
        values[block] = (left * right).sum(axis=1)
    return values


def similarity_pairs(embeddings: NDArray[np.generic], threshold: float, k: int = 64) -> Pairs:
    """Edges of the k-NN graph with cosine similarity >= threshold (arXiv 2304.07193, App. A.3: k = 64).

    embeddings: (N, d). Returns (i, j, similarity), each (pairs,), with i < j, sorted by (i, j), each pair once.
    """
    similarities, indices = knn_graph(embeddings, k)
    rows, columns = np.nonzero(similarities >= threshold - _SLACK)
    pairs = np.sort(np.stack([rows, indices[rows, columns]], axis=1), axis=1)
    pairs = np.unique(pairs, axis=0) if len(pairs) else np.empty((0, 2), np.int64)
    i, j = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
    values = cosines(embeddings, i, j)
    near = values >= threshold
    return i[near], j[near], values[near]
