"""Choosing what is like the seed sets: quotas of the sets, retrieval by each, and the mixture of it with clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation.assignment import assign
from curation.binary_codes import CodeIndex
from curation.claiming import Integers, Search
from curation.kmeans import kmeans
from curation.neighbours import search
from curation.retrieval import Retrieved, retrieve_by_cluster, retrieve_by_sample
from curation.row_blocks import Rows
from curation.sampling import allocate, balanced_counts, id_keys
from curation.simcore import simcore
from stages.base import StageError
from stages.curate.choosing import Answer, Question
from stages.curate.clusters import scaled_count
from stages.curate.groups import RetrievalParams
from stages.curate.pooling import Vectors

_FEWEST_FOR_A_HUB = 32


def need_seeds(question: Question) -> None:
    """Raise StageError where no seed set is connected."""
    if not question.seeds.ids:
        raise StageError(
            f"method {question.params.method} chooses what is like seed sets, and there are none: give the spec a "
            "top-level key seed_sets with a name and a source for each, or connect seed_images and seed_embeddings"
        )


def retrieved(question: Question) -> Answer:
    """Images like those of the seed sets, each set with its quota of the target."""
    return _retrieve(question, question.target)


def mixed(question: Question) -> Answer:
    """A share of the target from clusters, the rest retrieved; what retrieval does not find is made up by clusters."""
    share = question.params.mixture.clustered
    answer = _retrieve(question, question.target - round(share * question.target))
    found = int(answer.counts.sum())
    rest = np.flatnonzero(answer.counts == 0)
    if share > 0:
        clustered = balanced(question, question.target - found, rest)
        answer.kept |= dict.fromkeys(np.flatnonzero(clustered).tolist(), "balanced")
        answer.counts += clustered
        answer.dropped = {row: reason for row, reason in answer.dropped.items() if not answer.counts[row]}
    return answer


def balanced(question: Question, target: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each image (F,) is taken by balanced sampling from these rows."""
    params = question.params.balanced
    counts = np.zeros(len(question.ids), np.int64)
    order = question.distances[rows] if params.leaf == "closest" else None
    counts[rows] = balanced_counts(
        question.paths[rows], target, question.keys[rows], order=order, repeats=params.repeats
    )
    return counts


def similar_core(question: Question) -> Answer:
    """SimCore: centroids of all seed images take images in turn."""
    need_seeds(question)
    params, seeds = question.params.simcore, question.seeds
    wanted = min(scaled_count(params.centroids, len(question.ids)), len(seeds.ids))
    iterations = question.params.iterations
    made = kmeans(seeds.vectors, wanted, seed=question.params.seed, iterations=iterations, spherical=True)
    budget = min(question.target, max(1, int(params.budget * len(seeds.ids))))
    found = simcore(
        _searching(made.centroids, question.vectors),
        wanted,
        np.zeros(len(question.ids), np.bool_),
        question.keys,
        budget,
        patience=params.patience,
        stop_ratio=params.stop_ratio,
    )
    if len(found.rows) < question.target:
        why = (
            "the rest is no longer like the seed sets" if found.stopped else f"the budget is {params.budget:g} a seed"
        )
        question.note(f"simcore took {len(found.rows):,} of {question.target:,} images: {why}")
    return Answer.of_rows(
        len(question.ids),
        found.rows,
        "coreset",
        rounds=float(len(found.utilities)),
        stopped=float(found.stopped),
        similarity=float(found.similarities.mean()) if len(found.rows) else 0.0,
    )


def _retrieve(question: Question, target: int) -> Answer:
    if target < 1:
        return Answer(np.zeros(len(question.ids), np.int64), "retrieved")
    need_seeds(question)
    names = question.seeds.names
    unknown = sorted(set(question.params.retrieval.sets) - set(names))
    if unknown:
        raise StageError(
            f"retrieval.sets names '{unknown[0]}', and the seed sets are {', '.join(names)}: use one of these"
        )
    quotas = set_quotas(question.params.retrieval, names, target)
    found = _all_sets(question, quotas)
    for _ in names:
        left = target - sum(len(one.rows) for one in found.values())
        hungry = [name for name in names if _may_take_more(question, name, quotas[name], found[name])]
        if left < 1 or not hungry:
            break
        more = allocate(np.full(len(hungry), left), left, id_keys(hungry, question.params.seed, "sets"))
        quotas |= {name: quotas[name] + int(extra) for name, extra in zip(hungry, more, strict=True)}
        found = _all_sets(question, quotas)
    return _answer(question, found, target)


def set_quotas(params: RetrievalParams, names: list[str], target: int) -> dict[str, int]:
    """Images that each set may retrieve: its own quota, or an equal part of what those leave of the target."""
    quotas: dict[str, int] = {}
    for name in names:
        asked = params.sets[name].quota if name in params.sets else None
        if asked is not None:
            wanted = round(asked * target) if isinstance(asked, float) else asked
            quotas[name] = max(0, min(wanted, params.cap or target, target - sum(quotas.values())))
    free = [name for name in names if name not in quotas]
    if free:
        rest = target - sum(quotas.values())
        parts = allocate(np.full(len(free), params.cap or rest), rest, id_keys(free, 0, "sets"))
        quotas |= dict(zip(free, parts.tolist(), strict=True))
    return quotas


def _may_take_more(question: Question, name: str, quota: int, found: Retrieved) -> bool:
    params = question.params.retrieval
    own = name in params.sets and params.sets[name].quota is not None
    return not own and params.cap is None and len(found.rows) == quota


def _all_sets(question: Question, quotas: dict[str, int]) -> dict[str, Retrieved]:
    """What each set retrieves, in the order of their names: an image that one has, a later one may not have."""
    taken = np.zeros(len(question.ids), np.bool_)
    found = {}
    for name, quota in sorted(quotas.items()):
        found[name] = _one_set(question, name, quota, taken)
        taken[found[name].rows] = True
    return found


def _one_set(question: Question, name: str, quota: int, taken: NDArray[np.bool_]) -> Retrieved:
    params, seeds = question.params.retrieval.of(name), question.seeds
    rows = seeds.rows_of(name)
    many = params.sample_from
    by = params.by
    if by == "auto":
        many = many * len(question.ids) if isinstance(many, float) else many
        by = "sample" if len(rows) >= many else "cluster"
    if by == "sample":
        limit = params.hub_limit
        if isinstance(limit, float):
            limit = max(_FEWEST_FOR_A_HUB, round(limit * len(rows)))
        return retrieve_by_sample(
            _searching(seeds.vectors[rows], question.vectors, params.codes),
            taken,
            question.keys,
            id_keys([seeds.ids[row] for row in rows], question.params.seed, "query"),
            quota,
            per_query=params.per_query,
            hub_limit=limit,
        )
    leaves = question.tree.levels[0]
    most = params.per_cluster
    return retrieve_by_cluster(
        question.paths[:, -1].astype(np.int64),
        assign(seeds.vectors[rows], leaves)[0],
        taken,
        question.keys,
        quota,
        more_than=params.more_than,
        per_cluster=max(1, round(most * len(question.ids) / len(leaves))) if isinstance(most, float) else most,
    )


def _searching(queries: Vectors, images: Rows, codes: int = 0) -> Search:
    if not codes:
        return lambda rows, k: search(queries[rows], images, k)
    index = CodeIndex(images, codes)
    return lambda rows, k: index.search(queries[rows], k)


def _answer(question: Question, found: dict[str, Retrieved], target: int) -> Answer:
    answer = Answer(np.zeros(len(question.ids), np.int64), "retrieved")
    for name, one in found.items():
        answer.counts[one.rows] = 1
        answer.kept |= dict.fromkeys(one.rows.tolist(), f"retrieved:{name}")
        answer.retrieved |= _sources(one, question.seeds.rows_of(name))
        answer.dropped |= dict.fromkeys(one.hubs.tolist(), "hub")
        answer.hubs += [(name, *pair) for pair in zip(one.hubs.tolist(), one.hub_counts.tolist(), strict=True)]
        answer.metrics |= {f"retrieved/{name}": float(len(one.rows)), f"collisions/{name}": float(one.collisions)}
    answer.dropped = {row: reason for row, reason in answer.dropped.items() if not answer.counts[row]}
    answer.metrics["hubs"] = float(len({row for _, row, _ in answer.hubs}))
    if answer.hubs:
        question.note(f"{answer.metrics['hubs']:.0f} images are near to too many seed images and were passed over")
    short = target - int(answer.counts.sum())
    if short > 0:
        question.note(f"retrieval found {target - short:,} images of {target:,}: no more are within its limits")
    return answer


def _sources(found: Retrieved, seed_rows: Integers) -> dict[int, tuple[int, float, int]]:
    """Of each image that was retrieved by sample: the seed's row, the similarity, and the round."""
    sampled = np.flatnonzero(found.queries >= 0)
    seeds = seed_rows[found.queries[sampled]].tolist()
    values = zip(seeds, found.similarities[sampled].tolist(), found.rounds[sampled].tolist(), strict=True)
    return dict(zip(found.rows[sampled].tolist(), values, strict=True))
