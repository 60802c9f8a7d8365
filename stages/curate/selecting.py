"""Running curate on the tables: the pool, its tree of clusters, each image's role, and the selection table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.hierarchy import Hierarchy, hierarchical_kmeans
from curation.neighbours import unit_rows
from curation.sampling import balanced_sample, holdout_mask, id_keys
from stages.base import StageContext, StageError, StageResult
from stages.curate.report import write_report
from stages.tables import SELECTION, part_paths, table_digest, write_part
from stages.vectors import read_vectors

if TYPE_CHECKING:
    from stages.curate import CurateParams


@dataclass(frozen=True)
class Pool:
    """All images in ascending order of id, and the rows `members` (M,) of those that are clustered.

    vectors: (M, d) unit rows of the members. labels, group_ids: of every image. reasons: why an image is no member.
    """

    ids: list[str]
    labels: list[str | None]
    group_ids: list[str]
    reasons: dict[int, str]
    members: NDArray[np.int64]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Choice:
    """Of each member: its cluster path (M, T) from the top down, cosine to its leaf centroid (M,), and role."""

    paths: NDArray[np.int32]
    scores: NDArray[np.float32]
    holdout: NDArray[np.bool_]
    train: NDArray[np.bool_]


def select(ctx: StageContext[CurateParams]) -> StageResult:
    """Run the curate stage: the table `selection`, one row for each image of the pool."""
    pool = read_pool(ctx)
    tree = _tree(ctx, pool.vectors)
    choice = _choose(ctx, pool, tree)
    _write_selection(ctx, pool, choice)
    metrics = {
        "train": float(choice.train.sum()),
        "holdout": float(choice.holdout.sum()),
        "over_quota": float((~choice.train & ~choice.holdout).sum()),
        "duplicates": float(sum(reason == "duplicate" for reason in pool.reasons.values())),
        "no_embedding": float(sum(reason == "no_embedding" for reason in pool.reasons.values())),
        "clusters": float(len(np.unique(choice.paths, axis=0))),
    }
    metrics |= write_report(ctx, pool, choice)
    return StageResult(
        digest=table_digest(ctx.work, "selection"),
        rows_in=len(pool.ids),
        rows_out=int(metrics["train"]),
        metrics=metrics,
        summary=f"{metrics['train']:.0f} to train on, {metrics['holdout']:.0f} held out, "
        f"{metrics['clusters']:.0f} clusters",
    )


def read_pool(ctx: StageContext[CurateParams]) -> Pool:
    """Join images, duplicates and embeddings. Raises StageError where they are of different pools, or empty."""
    images = ctx.inputs["images"].table(["image_id", "label"]).sort_by("image_id")
    verdicts = ctx.inputs["duplicates"].table(["image_id", "group_id", "reason"]).sort_by("image_id")
    ids = images["image_id"].to_pylist()
    if not ids:
        raise StageError("The pool is empty: nothing to curate. Look at the report of the ingest stage.")
    if verdicts["image_id"].to_pylist() != ids:
        raise StageError("The duplicates are not those of these images: connect both to the same pool.")
    vector_ids, vectors = read_vectors(ctx.inputs["embeddings"].path)
    where = {name: row for row, name in enumerate(vector_ids)}
    reasons: dict[int, str] = {}
    for row, (name, reason) in enumerate(zip(ids, verdicts["reason"].to_pylist(), strict=True)):
        if reason is not None:
            reasons[row] = "duplicate"
        elif name not in where:
            reasons[row] = "no_embedding"
    members = np.array([row for row in range(len(ids)) if row not in reasons], np.int64)
    if not len(members):
        raise StageError(f"None of the {len(ids)} images has an embedding: look at the report of the embed stage.")
    rows = [where[ids[row]] for row in members]
    labels, groups = images["label"].to_pylist(), verdicts["group_id"].to_pylist()
    return Pool(ids, labels, groups, reasons, members, unit_rows(vectors[rows]))


def level_counts(clusters: int, levels: int) -> list[int]:
    """Clusters of each level, finest first: clusters^((levels - t) / levels), without repeats."""
    counts = [max(1, round(clusters ** ((levels - depth) / levels))) for depth in range(levels)]
    return sorted(set(counts), reverse=True)


def _tree(ctx: StageContext[CurateParams], vectors: NDArray[np.float32]) -> Hierarchy:
    params = ctx.params
    leaves = min(params.clusters, len(vectors))
    if leaves < params.clusters:
        ctx.note(f"clusters reduced from {params.clusters} to {leaves}: there are no more images to cluster")
    return hierarchical_kmeans(
        vectors,
        level_counts(leaves, params.levels),
        seed=params.seed,
        rounds=params.rounds,
        iterations=params.iterations,
        on_step=lambda done, total: ctx.progress(done, total, unit="clusterings"),
    )


def _choose(ctx: StageContext[CurateParams], pool: Pool, tree: Hierarchy) -> Choice:
    params = ctx.params
    leaves = tree.levels[0]
    centroids = unit_rows(leaves.centroids).astype(np.float64)[leaves.labels]
    scores = (pool.vectors * centroids).sum(axis=1).astype(np.float32)
    paths = tree.paths()
    groups = [pool.group_ids[row] for row in pool.members]
    labelled = np.array([pool.labels[row] is not None for row in pool.members])
    holdout = labelled & holdout_mask(groups, params.holdout, params.seed)
    free = np.flatnonzero(~holdout)
    if not len(free):
        raise StageError("Every image is held out and none is left to train on: lower 'holdout', or give more images.")
    target = _target(ctx, len(free))
    keys = id_keys([pool.ids[row] for row in pool.members[free]], params.seed, "sample")
    train = np.zeros(len(pool.members), np.bool_)
    if params.method == "balanced":
        train[free[balanced_sample(paths[free], target, keys)]] = True
    else:
        train[free[np.argsort(keys, kind="stable")[:target]]] = True
    return Choice(paths, scores, holdout, train)


def _target(ctx: StageContext[CurateParams], available: int) -> int:
    target = ctx.params.target
    if ctx.params.method == "all":
        return available
    if isinstance(target, float):
        return max(1, round(target * available))
    if target > available:
        ctx.note(f"target {target} is more than the {available} images there are to choose from: all of them train")
    return min(target, available)


def _write_selection(ctx: StageContext[CurateParams], pool: Pool, choice: Choice) -> None:
    roles, reasons = ["dropped"] * len(pool.ids), [pool.reasons.get(row) for row in range(len(pool.ids))]
    clusters: list[list[int] | None] = [None] * len(pool.ids)
    scores: list[float | None] = [None] * len(pool.ids)
    for member, row in enumerate(pool.members):
        clusters[row] = choice.paths[member].tolist()
        scores[row] = float(choice.scores[member])
        if choice.holdout[member]:
            roles[row], reasons[row] = "holdout", "holdout"
        elif choice.train[member]:
            roles[row], reasons[row] = "train", ctx.params.method
        else:
            reasons[row] = "over_quota"
    columns = [
        pa.array(pool.ids, pa.string()),
        pa.array(roles, pa.string()),
        pa.array(reasons, pa.string()),
        pa.array(clusters, pa.list_(pa.int32())),
        pa.array(scores, pa.float32()),
        pa.array([float(role == "train") for role in roles], pa.float32()),
        pa.array(pool.group_ids, pa.string()),
    ]
    for stale in part_paths(ctx.work, "selection"):
        stale.unlink()
    write_part(ctx.work, "selection", 0, pa.Table.from_arrays(columns, schema=SELECTION.schema))
