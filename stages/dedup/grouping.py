"""Running dedup on the tables: candidate edges, groups, verdicts, and the edges kept for later exploration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.duplicates import Edges, Limits, Verdicts, candidate_edges, verdicts
from stages.base import StageContext, StageError, StageResult
from stages.dedup.report import write_report
from stages.pictures import byte_sizes
from stages.tables import DUPLICATES, part_paths, table_digest, write_part
from stages.vectors import read_vectors

if TYPE_CHECKING:
    from stages.dedup import DedupParams


@dataclass(frozen=True)
class Pool:
    """Images in ascending order of id: ids, hashes (N, 8) uint8, pixels (N,), and rows that have an embedding."""

    ids: list[str]
    hashes: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    embedded: NDArray[np.int64]
    vectors: NDArray[np.float16]


def deduplicate(ctx: StageContext[DedupParams]) -> StageResult:
    """Run the dedup stage: the table `duplicates` and the side file `edges.parquet`."""
    pool = read_pool(ctx)
    edges = _pool_edges(ctx, pool)
    touched = np.unique(np.concatenate([edges.i[edges.used], edges.j[edges.used]]))
    known = byte_sizes(ctx.inputs["images"], [pool.ids[row] for row in touched])
    sizes = np.array([known.get(name, 0) for name in pool.ids], np.int64)
    found = verdicts(pool.ids, pool.pixels, sizes, edges)
    _write_duplicates(ctx, pool, edges, found)
    _write_edges(ctx, pool, edges)
    kept = int((found.groups.keepers == np.arange(len(pool.ids))).sum())
    group_sizes = np.bincount(found.groups.labels)
    metrics = {
        "kept": kept,
        "dropped": len(pool.ids) - kept,
        "groups": int((group_sizes > 1).sum()),
        "largest_group": int(group_sizes.max()),
        "perceptual_edges": int(edges.perceptual.sum()),
        "copy_edges": int(edges.copy.sum()),
    }
    write_report(ctx, pool.ids, edges, found)
    return StageResult(
        digest=table_digest(ctx.work, "duplicates"),
        rows_in=len(pool.ids),
        rows_out=kept,
        metrics={name: float(value) for name, value in metrics.items()},
        summary=f"{metrics['dropped']} near-duplicates dropped in {metrics['groups']} groups "
        f"(largest {metrics['largest_group']})",
    )


def read_pool(ctx: StageContext[DedupParams]) -> Pool:
    """Join images and embeddings; images without an embedding stay in the pool and have no edges."""
    images = ctx.inputs["images"].table(["image_id", "phash", "width", "height"]).sort_by("image_id")
    if not images.num_rows:
        raise StageError("The pool is empty: nothing to deduplicate. Look at the report of the ingest stage.")
    ids = images["image_id"].to_pylist()
    hashes = np.frombuffer(b"".join(value or bytes(8) for value in images["phash"].to_pylist()), np.uint8)
    pixels = images["width"].to_numpy().astype(np.int64) * images["height"].to_numpy().astype(np.int64)
    vector_ids, vectors = read_vectors(ctx.inputs["embeddings"].path)
    rows = {name: row for row, name in enumerate(ids)}
    shared = [index for index, name in enumerate(vector_ids) if name in rows]
    embedded = np.array([rows[vector_ids[index]] for index in shared], np.int64)
    if len(embedded) < len(ids):
        ctx.note(f"{len(ids) - len(embedded)} images have no embedding and are kept as they are")
    return Pool(ids, hashes.reshape(-1, 8), pixels, embedded, vectors[shared])


def _pool_edges(ctx: StageContext[DedupParams], pool: Pool) -> Edges:
    params = ctx.params
    limits = Limits(params.radius, params.confirm, params.threshold, params.neighbours)
    ctx.progress(0, 1, unit="searches")
    edges = candidate_edges(pool.hashes[pool.embedded], pool.vectors, limits)
    ctx.progress(1, 1, unit="searches")
    # Both `embedded` and its use as an index keep the ascending order of ids, so i < j still holds.
    return Edges(
        pool.embedded[edges.i], pool.embedded[edges.j], edges.hamming, edges.cosine, edges.perceptual, edges.copy
    )


def _write_duplicates(ctx: StageContext[DedupParams], pool: Pool, edges: Edges, found: Verdicts) -> None:
    reasons: list[str | None] = []
    distances: list[float | None] = []
    for edge in found.edge:
        if edge < 0:
            reasons.append(None)
            distances.append(None)
        elif edges.copy[edge]:
            reasons.append("copy")
            distances.append(max(0.0, 1 - float(edges.cosine[edge])))
        else:
            reasons.append("perceptual")
            distances.append(float(edges.hamming[edge]))
    columns = [
        pa.array(pool.ids, pa.string()),
        pa.array([pool.ids[row] for row in found.groups.first], pa.string()),
        pa.array([pool.ids[row] for row in found.groups.keepers], pa.string()),
        pa.array(reasons, pa.string()),
        pa.array(distances, pa.float32()),
    ]
    for stale in part_paths(ctx.work, "duplicates"):
        stale.unlink()
    write_part(ctx.work, "duplicates", 0, pa.Table.from_arrays(columns, schema=DUPLICATES.schema))


def _write_edges(ctx: StageContext[DedupParams], pool: Pool, edges: Edges) -> None:
    ids = np.array(pool.ids, dtype=object)
    table = pa.table(
        {
            "image_id": pa.array(ids[edges.i], pa.string()),
            "other_id": pa.array(ids[edges.j], pa.string()),
            "hamming": edges.hamming,
            "cosine": edges.cosine,
            "perceptual": edges.perceptual,
            "copy": edges.copy,
        }
    )
    with ctx.writing("edges.parquet") as path:
        pq.write_table(table, path, compression="zstd")
