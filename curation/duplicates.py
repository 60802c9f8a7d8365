"""Near-duplicates of a pool: which pairs count, the groups that they form, and what each dropped image is tied by.

Two kinds of edges. *Copy*: neighbours in a k-NN graph of embeddings above a cosine threshold (arXiv 2304.07193,
App. A.3). *Perceptual*: 64-bit hashes within a Hamming radius; a hash of 64 low frequencies cannot tell drawings on a
plain background apart, so such a pair also has to reach a lower cosine, the confirmation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.components import Groups, connected_components, duplicate_groups
from curation.neighbours import cosines, hamming_pairs, similarity_pairs


@dataclass(frozen=True)
class Limits:
    """radius: Hamming bits of a perceptual edge. confirm: cosine that it needs besides. threshold: cosine of a copy
    edge. neighbours: k of the k-NN graph. slack: how far below `confirm` and `threshold`, in cosine, candidate edges
    are kept for exploring other limits."""

    radius: int
    confirm: float
    threshold: float
    neighbours: int = 64
    slack: float = 0.1


@dataclass(frozen=True)
class Edges:
    """Candidate pairs, i < j, sorted: rows (E,), Hamming distance in bits, cosine, and which rules each meets."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    hamming: NDArray[np.int32]
    cosine: NDArray[np.float32]
    perceptual: NDArray[np.bool_]
    copy: NDArray[np.bool_]

    @property
    def used(self) -> NDArray[np.bool_]:
        """Edges that join two images into a group."""
        return self.perceptual | self.copy

    def __len__(self) -> int:
        return len(self.i)


def candidate_edges(hashes: NDArray[np.uint8], embeddings: NDArray[np.generic], limits: Limits) -> Edges:
    """All pairs that meet a rule or come near one. hashes: (N, 8) uint8; embeddings: (N, d)."""
    near_i, near_j, near_cosine = similarity_pairs(embeddings, limits.threshold - limits.slack, limits.neighbours)
    hash_i, hash_j, _ = hamming_pairs(hashes, limits.radius)
    hash_cosine = cosines(embeddings, hash_i, hash_j)
    plausible = hash_cosine >= limits.confirm - limits.slack
    i = np.concatenate([near_i, hash_i[plausible]])
    j = np.concatenate([near_j, hash_j[plausible]])
    cosine = np.concatenate([near_cosine, hash_cosine[plausible]])
    _, first = np.unique(np.stack([i, j]), axis=1, return_index=True)
    i, j, cosine = i[first], j[first], cosine[first]
    hamming = np.bitwise_count(hashes[i] ^ hashes[j]).sum(axis=1).astype(np.int32)
    perceptual = (hamming <= limits.radius) & (cosine >= limits.confirm)
    return Edges(i, j, hamming, cosine, perceptual, cosine >= limits.threshold)


@dataclass(frozen=True)
class Verdicts:
    """groups, and for each row the edge that ties it to its group most closely: (N,), -1 for singles and keepers."""

    groups: Groups
    edge: NDArray[np.int64]


def verdicts(
    image_ids: Sequence[str], pixels: NDArray[np.integer], sizes: NDArray[np.integer], edges: Edges
) -> Verdicts:
    """Group the images by the used edges and keep one of each group (see `duplicate_groups`)."""
    used = np.flatnonzero(edges.used)
    groups = duplicate_groups(image_ids, pixels, sizes, edges.i[used], edges.j[used])
    ids = np.asarray(image_ids, dtype=np.str_)
    own = np.concatenate([edges.i[used], edges.j[used]])
    other = np.concatenate([edges.j[used], edges.i[used]])
    twice = np.concatenate([used, used])
    order = np.lexsort((ids[other], edges.hamming[twice], -edges.cosine[twice], own))
    rows, first = np.unique(own[order], return_index=True)
    closest = np.full(len(ids), -1, np.int64)
    closest[rows] = twice[order][first]
    closest[groups.keepers == np.arange(len(ids))] = -1
    return Verdicts(groups, closest)


def kept_by_threshold(count: int, edges: Edges, thresholds: Sequence[float]) -> list[int]:
    """Images that would be kept at other copy thresholds, perceptual edges unchanged."""
    kept = []
    for threshold in thresholds:
        used = edges.perceptual | (edges.cosine >= threshold)
        labels = connected_components(count, edges.i[used], edges.j[used])
        kept.append(int(labels.max()) + 1 if count else 0)
    return kept
