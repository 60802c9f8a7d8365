"""The curate stage: which images train, which are held out, and why the rest is dropped."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stages.base import EXECUTION, EXPANDED, Input, Stage, StageContext, StageParams, StageResult
from stages.curate.groups import (
    BalancedParams,
    Count,
    DriftParams,
    Exponent,
    FacilityParams,
    MetaclipParams,
    MixtureParams,
    RetrievalParams,
    SasParams,
    SeedParams,
    SemdedupParams,
    Share,
    SimcoreParams,
)
from stages.curate.presets import PRESETS, described, with_preset
from stages.large_pools import IN_MEMORY

_BY_SEEDS = ("retrieved", "simcore")


class CurateParams(StageParams):
    """How many images to keep, and how they are chosen."""

    preset: (
        Literal[
            "dinov2",
            "dinov2-full",
            "dinov3",
            "dinov3-full",
            "semdedup",
            "semdedup-full",
            "d4",
            "simcore",
            "simcore-full",
            "random",
        ]
        | None
    ) = Field(
        None,
        description="A published recipe: its parameters, scaled to the pool, below those that are given here; *-full "
        "has the paper's own numbers.",
        json_schema_extra=EXPANDED,
    )
    method: Literal[
        "balanced",
        "random",
        "all",
        "raw",
        "retrieved",
        "mixture",
        "metaclip",
        "semdedup",
        "sas",
        "simcore",
        "facility_location",
    ] = Field(
        "balanced",
        description="'balanced' samples evenly over the tree of clusters, 'random' is its control, 'all' keeps all; "
        "'raw' is random too, but of the pool as it came, with near-duplicates and what filters drop; 'retrieved' and "
        "'simcore' take what is like the seed sets, 'mixture' some of that and some from clusters; 'metaclip' keeps "
        "images of large clusters by a small chance; 'semdedup', 'sas', 'facility_location' thin out by similarity.",
    )
    target: Count | Share = Field(
        0.5,
        description="Images to train on: a whole number, or a share in (0, 1] (write 1.0 for all) of the images that "
        "may be chosen. Images of seed sets that join come on top.",
    )
    clusters: int = Field(100, ge=1, description="Leaf clusters.")
    levels: int = Field(
        2, ge=1, le=6, description="Levels of the tree; each has the same ratio of clusters to the next."
    )
    cluster_counts: list[Count | Exponent] = Field(
        [],
        max_length=6,
        description="Clusters of each level, the leaves first, in place of clusters and levels: whole numbers, or "
        "exponents e in (0, 1) for N^e clusters of N images.",
    )
    rounds: int = Field(
        3, ge=0, le=100, description="Resampling rounds of a level, which even out the centroids (the paper's 10)."
    )
    iterations: int = Field(25, ge=1, le=1000, description="Lloyd iterations of each k-means (the paper's 50).")
    nearest: list[Count] = Field(
        [],
        max_length=6,
        description="Images (clusters, at higher levels) nearest to each centroid that a resampling round clusters "
        "again, for each level, the leaves first; 1: that level is not resampled. Empty: half the average cluster.",
    )
    coarse: int = Field(
        0,
        ge=0,
        description="For very many clusters: so many are made first, each then split by a k-means of its own into its "
        "part of the leaf clusters (the paper's 100,000, split into 100 each). 0: one k-means.",
    )
    in_memory: int = IN_MEMORY
    held_back: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Share of the images that clustering does not see and that are assigned to its clusters after: "
        "the yardstick of drift.",
    )
    centroids: str | None = Field(
        None,
        description="Clusters of an earlier selection, run:RUN or run:RUN/STAGE, to assign the images to instead of "
        "clustering them: cluster numbers keep their meaning while a pool grows. Their content enters the key.",
        json_schema_extra={**EXECUTION, "artifact": "selection"},
    )
    balanced: BalancedParams = Field(
        BalancedParams(), description="Method balanced, and the mixture's clustered part."
    )
    retrieval: RetrievalParams = Field(RetrievalParams(), description="Methods retrieved and mixture.")
    seeds: SeedParams = Field(SeedParams(), description="Whether the seed sets' own images train.")
    mixture: MixtureParams = Field(MixtureParams(), description="Parts, and how training draws from them.")
    metaclip: MetaclipParams = Field(MetaclipParams(), description="Method metaclip.")
    semdedup: SemdedupParams = Field(SemdedupParams(), description="Method semdedup.")
    sas: SasParams = Field(SasParams(), description="Method sas.")
    simcore: SimcoreParams = Field(SimcoreParams(), description="Method simcore.")
    facility_location: FacilityParams = Field(FacilityParams(), description="Method facility_location.")
    drift: DriftParams = Field(DriftParams(), description="When frozen centroids count as outgrown.")
    holdout: float = Field(
        0.2, ge=0, lt=1, description="Share of the labelled images that never trains and is used to evaluate."
    )
    seed: int = Field(0, ge=0, description="Seed of clustering, sampling and the held-out share.")

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        return with_preset(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        counts = [count for count in self.cluster_counts if isinstance(count, int)]
        exponents = [count for count in self.cluster_counts if isinstance(count, float)]
        for falling in (counts, exponents):
            if sorted(set(falling), reverse=True) != falling:
                raise ValueError(f"cluster_counts must fall from level to level, got {self.cluster_counts}")
        if counts and exponents:
            raise ValueError("cluster_counts has numbers and exponents: give one or the other")
        if self.balanced.repeats > 1 and self.method not in ("balanced", "mixture"):
            raise ValueError(f"balanced.repeats is of method balanced or mixture, and method is {self.method}")
        return self


class Curate(Stage[CurateParams]):
    """Chooses training images: evenly over clusters (arXiv 2405.15613), by seed sets, by coresets or by chance."""

    type = "curate"
    Params = CurateParams
    inputs = {
        "images": Input("images"),
        "embeddings": Input("embeddings"),
        "duplicates": Input("duplicates"),
        "quality": Input("quality", optional=True),
        "seed_images": Input("images", optional=True, by_name=True),
        "seed_embeddings": Input("embeddings", optional=True, by_name=True),
        "reference_embeddings": Input("embeddings", optional=True, by_name=True),
    }
    output = "selection"

    def externals(self) -> dict[str, str]:
        if self.params.centroids is None:
            return {}
        from stages.curate.frozen import centroids_digest

        return {"centroids": centroids_digest(self.params.centroids)}

    def unmet(self, connected: Collection[str]) -> list[str]:
        if {"seed_images", "seed_embeddings"} <= set(connected):
            return []
        needs = []
        if self.params.method in _BY_SEEDS:
            needs.append(f"method: {self.params.method} chooses what is like seed sets")
        if self.params.seeds.join != "none":
            needs.append("seeds.join: images of seed sets are to be trained on")
        remedy = "give the spec a top-level key seed_sets with a name and a source for each"
        return [f"{need}, and there are none: {remedy}" for need in needs]

    def remarks(self) -> list[str]:
        params, told = self.params, []
        if params.preset:
            settings = {name: getattr(params, name) for name in PRESETS[params.preset]}
            told.append(f"preset {params.preset}: {described(settings)}")
        if params.centroids:
            told.append("images are assigned to frozen clusters; drift is measured and judged")
        return told

    def run(self, ctx: StageContext[CurateParams]) -> StageResult:
        from stages.curate.selecting import select

        return select(ctx)
