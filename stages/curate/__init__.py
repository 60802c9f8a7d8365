"""The curate stage: which images train, which are held out, and why the rest is dropped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.base import Input, Stage, StageContext, StageParams, StageResult

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class CurateParams(StageParams):
    """How many images to keep, and how they are chosen."""

    method: Literal["balanced", "random", "all"] = Field(
        "balanced",
        description="'balanced' samples evenly over the tree of clusters, 'random' is its control, 'all' keeps all.",
    )
    target: Count | Share = Field(
        0.5,
        description="Images to train on: a whole number, or a share in (0, 1] (write 1.0 for all) of the images that "
        "are neither near-duplicates nor held out.",
    )
    clusters: int = Field(100, ge=1, description="Leaf clusters.")
    levels: int = Field(
        2, ge=1, le=6, description="Levels of the tree; each has the same ratio of clusters to the next."
    )
    rounds: int = Field(
        3, ge=0, le=100, description="Resampling rounds of a level, which even out the centroids (the paper's 10)."
    )
    iterations: int = Field(25, ge=1, le=1000, description="Lloyd iterations of each k-means (the paper's 50).")
    holdout: float = Field(
        0.2, ge=0, lt=1, description="Share of the labelled images that never trains and is used to evaluate."
    )
    seed: int = Field(0, ge=0, description="Seed of clustering, sampling and the held-out share.")


class Curate(Stage[CurateParams]):
    """Clusters the images by hierarchical k-means and samples evenly over the tree (arXiv 2405.15613)."""

    type = "curate"
    Params = CurateParams
    inputs = {
        "images": Input("images"),
        "embeddings": Input("embeddings"),
        "duplicates": Input("duplicates"),
    }
    output = "selection"

    def run(self, ctx: StageContext[CurateParams]) -> StageResult:
        from stages.curate.selecting import select

        return select(ctx)
