"""Copy detection: micro average precision of (query, reference) pairs against true groups of copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import bootstrap_interval
from training.evaluation.intervals import Interval
from training.evaluation.knn import nearest

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class CopyDetection:
    """micro_ap with its interval over queries; recall_at_p90: the largest recall at a precision of .9 or more.

    threshold: the score at which it is reached, NaN where it is not.
    """

    micro_ap: float
    interval: Interval
    recall_at_p90: float
    threshold: float


def copy_detection(
    references: FloatArray,
    reference_groups: IntArray,
    queries: FloatArray,
    query_groups: IntArray,
    *,
    candidates: int = 20,
    background: FloatArray | None = None,
    seed: int = 0,
    resamples: int = 200,
    confidence: float = 0.95,
) -> CopyDetection:
    """Score the `candidates` nearest references of every query, all pairs in one ranking.

    A pair is right where both belong to one group (>= 0; -1 is a distractor, which nothing matches); recall counts
    against all right pairs of the two sets, so what is not among the candidates is missed. The micro AP of the Image
    Similarity Challenge (Douze et al., 2021, arXiv:2106.09672): sum of precision times the step of recall, pairs of
    equal score taken together. background: (M, D) features of unrelated images; a query's mean similarity to its 10
    nearest of them is subtracted from its scores, so that one threshold suits all queries (score normalisation, same
    paper). Raises ValueError where no query has a copy.
    """
    places, similarity = nearest(references, queries, candidates)
    scores = np.asarray(np.round(similarity, 6), dtype=np.float64)
    if background is not None and len(background):
        scores = scores - nearest(background, queries, 10)[1].mean(axis=1, keepdims=True)
    right = (query_groups[:, None] == reference_groups[places]) & (query_groups[:, None] >= 0)
    groups, sizes = np.unique(reference_groups[reference_groups >= 0], return_counts=True)
    size_of = dict(zip(groups.tolist(), sizes.tolist(), strict=True))
    wanted = np.array([size_of.get(int(group), 0) for group in query_groups])
    if wanted.sum() == 0:
        raise ValueError("no query has a copy among the references")

    order, last = _ranking(scores.ravel())
    owner, hit = order // scores.shape[1], right.ravel()[order]

    def of(rows: IntArray) -> float:
        times = np.bincount(rows, minlength=len(queries))
        total = int(times @ wanted)
        if total == 0:
            return float("nan")
        taken, hits = np.cumsum(times[owner])[last], np.cumsum(times[owner] * hit)[last]
        return float((hits / np.maximum(taken, 1) * np.diff(hits, prepend=0)).sum() / total)

    interval = bootstrap_interval(of, len(queries), seed=seed, resamples=resamples, confidence=confidence)
    precision, recall, values = precision_recall(scores.ravel(), right.ravel(), int(wanted.sum()))
    good = np.flatnonzero(precision >= 0.9)
    best = good[recall[good].argmax()] if len(good) else None
    return CopyDetection(
        of(np.arange(len(queries))),
        interval,
        0.0 if best is None else float(recall[best]),
        float("nan") if best is None else float(values[best]),
    )


def micro_average_precision(scores: NDArray[np.float64], right: NDArray[np.bool_], wanted: int) -> float:
    """Area under the precision-recall steps of pairs ranked by score, of which `wanted` right ones exist in all."""
    if wanted == 0:
        return float("nan")
    precision, recall, _ = precision_recall(scores, right, wanted)
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def precision_recall(
    scores: NDArray[np.float64], right: NDArray[np.bool_], wanted: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of taking all pairs at or above each distinct score, and those scores, highest first."""
    order, last = _ranking(scores)
    hits = np.cumsum(right[order])[last]
    return hits / (last + 1), hits / wanted, scores[order][last]


def _ranking(scores: NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """Rows by score, highest first, and the places there at which a run of equal scores ends."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    return order, last
