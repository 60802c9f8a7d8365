"""Neighbours and clusters of a pool: in this process while it is small, shared by all workers when it is large."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from pydantic import Field

from stages.base import EXECUTION, StageContext, StageParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from curation.hierarchy import Clustering
    from curation.nearest import Links
    from curation.row_blocks import Rows
    from curation.row_files import MapTasks


PART_ROWS = 1 << 17
"""Rows of a part that one task compares with another; changes the speed alone."""


IN_MEMORY = Field(
    200_000,
    ge=0,
    description="Images up to which embeddings are held in memory and worked on by one process; more lie in files, "
    "and all workers share the work. The result is the same.",
    json_schema_extra=EXECUTION,
)


class SearchParams(StageParams):
    """How the nearest neighbours in embedding space are searched for."""

    in_memory: int = IN_MEMORY
    exact_up_to: int = Field(
        1_000_000,
        ge=0,
        description="Images up to which every pair is compared. More are divided into cells, each image is compared "
        "with those of the nearest cells, and what that misses is measured on a sample.",
    )
    cells: int = Field(0, ge=0, description="Cells; 0: the square root of images times probes.")
    probes: int = Field(32, ge=1, le=1024, description="Cells that each image is compared with.")
    sample: int = Field(1000, ge=1, description="Images whose neighbours are searched for exactly, to measure recall.")


def pool_links(
    ctx: StageContext[Any], vectors: Rows, threshold: float, k: int, params: SearchParams
) -> tuple[Links, float]:
    """Links of each row to its k most similar others with at least cosine `threshold`, and their recall.

    vectors: as `stages.vectors.pool_vectors` gives them, of any length. The recall is 1 where every pair was compared
    (exact, ties by row), else the share of the exact links of `params.sample` rows that were found, of which the user
    is told.
    """
    from curation.nearest import near_links
    from curation.row_blocks import UnitRows
    from curation.row_files import RowFiles
    from curation.shared_neighbours import Cells, Search, all_links, cell_links, sample_recall

    exact = len(vectors) <= params.exact_up_to
    if exact and not isinstance(vectors, RowFiles):
        return near_links(UnitRows(vectors), threshold, k), 1.0
    points = vectors if isinstance(vectors, RowFiles) else RowFiles.of(vectors, ctx.scratch / "searched")
    search = Search(points.units(), threshold, k, ctx.scratch / "links", PART_ROWS)
    if exact:
        links = all_links(search, map_tasks(ctx))
        shutil.rmtree(search.folder)
        return links, 1.0
    links = cell_links(search, Cells(params.cells, params.probes), map_tasks(ctx))
    recall = sample_recall(search, links, map_tasks(ctx), params.sample)
    shutil.rmtree(search.folder)
    ctx.note(
        f"{len(points):,} images are more than {params.exact_up_to:,}: their neighbours were searched for in cells, "
        f"with {recall.share:.4f} of the {recall.true:,} near pairs of {recall.rows:,} sampled images found"
    )
    return links, recall.share


def clustered_rows(ctx: StageContext[Any], vectors: Rows, indices: NDArray[np.int64]) -> Rows:
    """The rows at ascending `indices`, in a form that `pool_clustering` can put on workers."""
    from curation.row_files import RowFiles

    if isinstance(vectors, RowFiles):
        return vectors.narrowed(indices, ctx.scratch / "clustered.npy")
    return vectors[indices]  # type: ignore[no-any-return]


def pool_clustering(ctx: StageContext[Any], vectors: Rows) -> Clustering | None:
    """What to give `hierarchical_kmeans` as `clustering` for these rows: workers where they lie in files."""
    from curation.row_files import RowFiles
    from curation.shared_kmeans import SharedClustering

    return SharedClustering(map_tasks(ctx), ctx.scratch / "clusters") if isinstance(vectors, RowFiles) else None


def map_tasks(ctx: StageContext[Any]) -> MapTasks:
    """Fan-out over as many workers as there are CPUs; stops between tasks where the run is cancelled."""

    def run(worker: type, config: Any, tasks: Any, *, on_done: Any) -> None:
        def told(result: dict[str, Any]) -> None:
            ctx.check_cancelled()
            on_done(result)

        ctx.compute.map(worker, config, tasks, actors=ctx.compute.cpus(), on_done=told)

    return run
