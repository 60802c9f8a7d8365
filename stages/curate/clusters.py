"""The tree of clusters that images are put into: made from them, or frozen, from an earlier selection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from curation.assignment import assign
from curation.drift import measure_drift
from curation.hierarchy import Hierarchy, hierarchical_kmeans
from curation.nearest import exact_cosines
from curation.neighbours import unit_rows
from curation.row_blocks import Rows, narrowed
from curation.sampling import id_keys
from stages.base import StageContext, StageError
from stages.curate.frozen import CENTROIDS, centroids_path
from stages.curate.pooling import Pool, embedding_model
from stages.large_pools import clustered_rows, pool_clustering
from stages.tables import read_table

if TYPE_CHECKING:
    from stages.curate import CurateParams

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Tree:
    """Centroids of every level and what they were made on.

    levels: centroids (k_t, d), leaves first. parents: of each cluster of level t the cluster of level t + 1. counts:
    (k_1,) images of each leaf. yardstick: distances to their leaf of images that the clustering did not see (of all
    where it saw all). model: whose embeddings these are.
    """

    levels: list[Vectors]
    parents: list[NDArray[np.int64]]
    counts: NDArray[np.int64]
    yardstick: NDArray[np.float32]
    model: str

    def place(self, vectors: Rows) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Paths (N, T) of vectors from the top level down, and squared distances (N,) to their leaf centroids."""
        leaves, distances = assign(vectors, self.levels[0])
        return self.paths(leaves), distances

    def paths(self, leaves: NDArray[np.int64]) -> NDArray[np.int32]:
        """The path (N, T) from the top level down to each of the leaves (N,)."""
        columns = [leaves]
        for parents in self.parents:
            columns.append(parents[columns[-1]])
        return np.stack(columns[::-1], axis=1).astype(np.int32)

    def scores(self, vectors: Rows, leaves: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosine (N,) of unit rows to their leaf centroids."""
        return exact_cosines(vectors, unit_rows(self.levels[0]), np.arange(len(leaves)), leaves.astype(np.int64))

    def occupancy(self, leaf_counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Images of each cluster of every level, leaves first."""
        counts = [leaf_counts]
        for level, parents in enumerate(self.parents):
            counts.append(np.bincount(parents, counts[-1], len(self.levels[level + 1])).astype(np.int64))
        return counts


def level_counts(clusters: int, levels: int) -> list[int]:
    """Clusters of each level, finest first: clusters^((levels - t) / levels), without repeats."""
    counts = [max(1, round(clusters ** ((levels - depth) / levels))) for depth in range(levels)]
    return sorted(set(counts), reverse=True)


def scaled_count(count: float, images: int) -> int:
    """A number of clusters: itself, or images^count where it is an exponent in (0, 1)."""
    return max(1, round(images**count if isinstance(count, float) else count))


def make_tree(ctx: StageContext[CurateParams], pool: Pool) -> tuple[Tree, NDArray[np.int32], NDArray[np.float32]]:
    """The tree, and the members' paths (M, T) and squared distances (M,)."""
    model = embedding_model(ctx.inputs["embeddings"].path)
    if ctx.params.centroids is not None:
        tree = read_tree(centroids_path(ctx.params.centroids))
        if tree.model != model:
            raise StageError(
                "centroids: those clusters are of another embedding model or preprocessing than this pool's "
                "embeddings: embed by the same, or leave centroids out and cluster again"
            )
        return tree, *tree.place(pool.vectors)
    return _fitted(ctx, pool, model)


def _fitted(
    ctx: StageContext[CurateParams], pool: Pool, model: str
) -> tuple[Tree, NDArray[np.int32], NDArray[np.float32]]:
    ids = [pool.ids[row] for row in pool.members]
    unseen = id_keys(ids, ctx.params.seed, "held back") / 2.0**64 < ctx.params.held_back
    unseen &= ~unseen.all()
    seen = np.flatnonzero(~unseen)
    vectors = clustered_rows(ctx, pool.vectors, seen)
    counts = _counts(ctx, len(seen))
    if ctx.params.nearest and len(ctx.params.nearest) != len(counts):
        raise StageError(f"nearest: give a number for each of the {len(counts)} levels, {counts} clusters, or none")
    made = hierarchical_kmeans(
        vectors,
        counts,
        seed=ctx.params.seed,
        rounds=ctx.params.rounds,
        iterations=ctx.params.iterations,
        nearest=ctx.params.nearest or None,
        coarse=min(ctx.params.coarse, counts[0]),
        clustering=pool_clustering(ctx, vectors),
        on_step=lambda done, total: ctx.progress(done, total, unit="clusterings"),
    )
    leaves, distances = np.empty(len(ids), np.int64), np.empty(len(ids), np.float32)
    leaves[seen], distances[seen] = made.levels[0].labels, made.levels[0].distances
    leaves[unseen], distances[unseen] = assign(
        narrowed(pool.vectors, np.flatnonzero(unseen)), made.levels[0].centroids
    )
    yardstick = np.sqrt(distances[unseen] if unseen.any() else distances)
    tree = _tree_of(made, np.bincount(leaves, minlength=len(made.levels[0].centroids)), yardstick, model)
    return tree, tree.paths(leaves), distances


def _tree_of(made: Hierarchy, counts: NDArray[np.int64], yardstick: NDArray[np.float32], model: str) -> Tree:
    levels = [level.centroids for level in made.levels]
    return Tree(levels, [level.labels for level in made.levels[1:]], counts, yardstick, model)


def _counts(ctx: StageContext[CurateParams], images: int) -> list[int]:
    """Clusters of each level, leaves first."""
    params = ctx.params
    asked = [scaled_count(count, images) for count in params.cluster_counts] or [params.clusters]
    if asked[0] > images:
        ctx.note(f"clusters reduced from {asked[0]} to {images}: there are no more images to cluster")
    fitting = [min(count, images) for count in asked]
    return sorted(set(fitting), reverse=True) if params.cluster_counts else level_counts(fitting[0], params.levels)


def write_tree(ctx: StageContext[CurateParams], tree: Tree) -> None:
    """Keep the tree in the artifact, for `centroids`."""
    arrays: dict[str, NDArray[Any]] = {f"centroids_{level}": rows for level, rows in enumerate(tree.levels)}
    arrays |= {f"parents_{level}": parents for level, parents in enumerate(tree.parents)}
    arrays |= {"counts": tree.counts, "yardstick": tree.yardstick}
    with ctx.writing(CENTROIDS) as path:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, {"model": tree.model})


def read_tree(path: Path) -> Tree:
    """The tree in a selection's file."""
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        model = (file.metadata() or {}).get("model", "")
    depth = sum(name.startswith("centroids_") for name in arrays)
    return Tree(
        [arrays[f"centroids_{level}"] for level in range(depth)],
        [arrays[f"parents_{level}"] for level in range(depth - 1)],
        arrays["counts"],
        arrays["yardstick"],
        model,
    )


def judge_drift(
    ctx: StageContext[CurateParams],
    pool: Pool,
    tree: Tree,
    leaves: NDArray[np.integer],
    distances: NDArray[np.float32],
) -> tuple[dict[str, float], str]:
    """Metrics and verdict of images that are new since frozen clusters were made; none where they are not frozen."""
    if ctx.params.centroids is None:
        return {}, ""
    known = set(_ids_of(centroids_path(ctx.params.centroids).parent))
    new = np.array([pool.ids[row] not in known for row in pool.members], np.bool_)
    if not new.any():
        return {"new_images": 0.0, "cluster_again": 0.0}, "no image is new to the frozen clusters"
    occupied = tree.occupancy(np.bincount(leaves[new], minlength=len(tree.levels[0])))
    drift = measure_drift(
        np.sqrt(distances[new]), tree.yardstick, occupied, tree.occupancy(tree.counts), ctx.params.seed
    )
    limits = ctx.params.drift
    again = drift.distance > limits.distance or drift.occupancy > limits.occupancy
    verdict = (
        f"drift of {drift.images:,} new images: distances x {drift.distance:.2f} (limit {limits.distance:g}), "
        f"occupancy {drift.occupancy:.3f} bits (limit {limits.occupancy:g}): "
        + ("cluster again" if again else "the frozen clusters still fit")
    )
    ctx.note(verdict)
    metrics = {
        "new_images": float(drift.images),
        "drift_distance": drift.distance,
        "drift_occupancy": drift.occupancy,
        "cluster_again": float(again),
    }
    with ctx.writing("drift.json") as path:
        path.write_text(json.dumps({**metrics, "level": drift.level, "verdict": verdict}, indent=1) + "\n")
    return metrics, verdict


def _ids_of(selection: Path) -> list[str]:
    return read_table(selection, "selection", ["image_id"])["image_id"].to_pylist()
