"""Precision and recall of every kind of duplicate search on true groups: `python -m tests.benchmarks.curation_groups`.

Each method gives pairs: equal pixels, pHash and PDQ at several radii, PDQ of the turned forms, the k-NN graph (k = 64)
of EfficientNet-Lite0 embeddings at several cosines, and what the dedup stage does with its default parameters, as
edges and as the groups that these form. A pair is right if both pictures are of one group or have equal pixels.
`best` is the recall of each scored method at the loosest limit that still has a precision, and of all of them
together, each at its own. Pictures of one person or kind of clothes are no copies of each other: there only pairs
across groups, false merges, say something.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.candidates import Prints, find_pairs, near_codes, pdq_bits
from curation.components import connected_components
from curation.decoding import decode
from curation.duplicates import with_exact
from curation.embedders import Embedder
from curation.fingerprints import Fingerprint, fingerprint
from curation.neighbours import hamming_pairs, similarity_pairs
from curation.pdq import FORMS, MATCH_RADIUS, USABLE_QUALITY
from curation.row_blocks import Rows
from stages.dedup import DedupParams
from stages.dedup.limits import limits_of, pool_reach
from stages.embed import EmbedParams
from tests.benchmarks.curation_sets import (
    Picture,
    faces,
    fashion,
    skin_tones,
    two_vendors,
    wallpaper_families,
)
from tests.benchmarks.peers import keep_result

COPIES: dict[str, Callable[[], list[Picture]]] = {
    "wallpaper_families": wallpaper_families,
    "skin_tones": skin_tones,
    "two_vendors": two_vendors,
}
KINDS: dict[str, Callable[[], list[Picture]]] = {"faces": faces, "fashion_mnist": fashion}
FURTHER_SIZES = {"wallpaper_families": [160]}
COSINES = (0.98, 0.95, 0.9, 0.8, 0.7, 0.6)
FLOOR = 0.3
PHASH_RADII, PDQ_RADII = (0, 3, 8, 10), (8, MATCH_RADIUS)
PRECISIONS = (1.0, 0.95, 0.9)
NEIGHBOURS = 64

Found = tuple[NDArray[np.int64], NDArray[np.int64]]
Scored = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.number]]
"""Pairs with a score of which less is nearer."""


def main() -> None:
    figures = {}
    for name, pictures in (COPIES | KINDS).items():
        figures[name] = measured(pictures(), FURTHER_SIZES.get(name, []), name in COPIES)
        print(name, json.dumps(figures[name], indent=1), flush=True)
    keep_result("curation_groups", "python -m tests.benchmarks.curation_groups", figures)


def measured(pictures: list[Picture], further_sizes: list[int], copies: bool) -> dict[str, Any]:
    """further_sizes: sides in pixels at which the graph is measured besides. copies: whether groups are of copies."""
    pictures = sorted(pictures, key=lambda picture: picture.name)
    prints, digests = _prints(pictures)
    same = [_labels([picture.group for picture in pictures]), _labels([digest or b"" for digest in digests])]
    truth = np.unique(np.concatenate([i * len(pictures) + j for i, j in map(_inside, same)]))
    found, scored = _fixed(prints, digests), _scored(prints)
    for size in further_sizes:
        scored[f"k-NN graph, {size} px"] = _graph(_vectors(pictures, size))
    for radius in PHASH_RADII:
        found[f"phash <= {radius}"] = _within(scored["phash"], radius)
    for radius in PDQ_RADII:
        found[f"pdq <= {radius}"] = _within(scored["pdq"], radius)
        found[f"pdq, 8 forms <= {radius}"] = _within(scored["pdq, 8 forms"], radius)
    for cosine in COSINES:
        found[f"k-NN graph >= {cosine:g}"] = _within(scored["k-NN graph"], np.float32(-cosine))
    figures: dict[str, Any] = {"pictures": len(pictures), "groups": int(same[0].max()) + 1}
    if copies:
        figures["true_pairs"] = len(truth)
        figures["best"] = {f"precision {share}": _best(scored, truth, len(pictures), share) for share in PRECISIONS}
    figures["methods"] = {name: _judged(pairs, truth, len(pictures), copies) for name, pairs in found.items()}
    return figures


def _labels(names: list[Any]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1]


def _prints(pictures: list[Picture]) -> tuple[Prints, list[bytes | None]]:
    prints: list[Fingerprint] = [fingerprint(decode(picture.data)) for picture in pictures]
    phash = np.frombuffer(b"".join(each.phash for each in prints), np.uint8).reshape(-1, 8)
    pdq = np.frombuffer(b"".join(each.pdq or bytes(256) for each in prints), np.uint8).reshape(-1, 8, 32)
    usable = np.array([each.pdq is not None and (each.pdq_quality or 0) >= USABLE_QUALITY for each in prints])
    vectors = _vectors(pictures, EmbedParams().size)
    return Prints(phash, np.ones(len(prints), bool), pdq, usable, vectors), [each.pixel_digest for each in prints]


def _vectors(pictures: list[Picture], size: int) -> NDArray[np.float16]:
    embed = EmbedParams()
    vectors, errors = Embedder(embed.model, embed.weights, size).embed([(picture.data, 1) for picture in pictures])
    assert not any(errors)
    return vectors


def _fixed(prints: Prints, digests: list[bytes | None]) -> dict[str, Found]:
    """Methods without a limit to vary: equal pixels, and the dedup stage's own rules."""
    params = DedupParams()
    edges = with_exact(find_pairs(prints, pool_reach(params)), len(prints), digests)
    used = edges.used(limits_of(params))
    groups = connected_components(len(prints), edges.i[used], edges.j[used])
    return {
        "pixel digest": _inside(_labels([digest or b"" for digest in digests])),
        "dedup stage, edges": (edges.i[used], edges.j[used]),
        "dedup stage, groups": _inside(groups),
    }


def _inside(labels: NDArray[np.int64]) -> Found:
    """All pairs of rows with the same label."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    pairs = [rows[np.stack(np.triu_indices(len(rows), 1))] for rows in groups]
    i, j = np.concatenate(pairs, axis=1)
    return i, j


def _scored(prints: Prints) -> dict[str, Scored]:
    rows = np.flatnonzero(prints.usable)
    upright_i, upright_j, bits = hamming_pairs(prints.pdq[rows, 0], MATCH_RADIUS)
    return {
        "phash": hamming_pairs(prints.phash, 16),
        "pdq": (rows[upright_i], rows[upright_j], bits),
        "pdq, 8 forms": _turned(prints, rows),
        "k-NN graph": _graph(prints.vectors),
    }


def _turned(prints: Prints, rows: NDArray[np.int64]) -> Scored:
    """Pairs of which the earlier is near a turned or mirrored form of the later one, or near it as it is."""
    keys = [np.empty(0, np.int64)]
    for form in range(len(FORMS)):
        for j, i in near_codes(prints.pdq[:, form], rows, rows, MATCH_RADIUS, prints.pdq[:, 0]):
            keys.append(i[i < j] * len(prints) + j[i < j])
    i, j = np.divmod(np.unique(np.concatenate(keys)), max(1, len(prints)))
    return i, j, pdq_bits(prints, i, prints, j, turned=True)


def _graph(vectors: Rows) -> Scored:
    i, j, cosine = similarity_pairs(vectors, FLOOR, NEIGHBOURS)
    return i, j, -cosine


def _within(pairs: Scored, limit: float) -> Found:
    i, j, score = pairs
    return i[score <= limit], j[score <= limit]


def _judged(pairs: Found, truth: NDArray[np.int64], count: int, copies: bool) -> dict[str, Any]:
    right = int(np.isin(pairs[0] * count + pairs[1], truth).sum())
    found: dict[str, Any] = {"pairs": len(pairs[0]), "wrong": len(pairs[0]) - right}
    if copies:
        found["precision"] = round(right / len(pairs[0]), 4) if len(pairs[0]) else None
        found["recall"] = round(right / len(truth), 4)
    return found


def _best(scored: dict[str, Scored], truth: NDArray[np.int64], count: int, precision: float) -> dict[str, Any]:
    """Of each method the loosest limit within which the share of right pairs is at least `precision`."""
    figures: dict[str, Any] = {}
    together = [np.empty(0, np.int64)]
    for name, (i, j, score) in scored.items():
        limit = _loosest(np.isin(i * count + j, truth), score, precision)
        pairs = _within((i, j, score), -np.inf if limit is None else limit)
        shown = None if limit is None else round(abs(limit), 4)
        figures[name] = {"limit": shown, **_judged(pairs, truth, count, True)}
        together.append(pairs[0] * count + pairs[1])
    every = np.unique(np.concatenate(together))
    figures["together"] = _judged((every // count, every % count), truth, count, True)
    return figures


def _loosest(right: NDArray[np.bool_], score: NDArray[np.number], precision: float) -> float | None:
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True][: len(ranked)])  # equal scores come together
    enough = ends[np.cumsum(right[order])[ends] >= precision * (ends + 1)]
    return float(ranked[enough[-1]]) if len(enough) else None


if __name__ == "__main__":
    main()
