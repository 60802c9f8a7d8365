"""The dedup stage: groups of near-duplicates, and the one image that each keeps."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from stages.base import Input, Stage, StageContext, StageParams, StageResult


class DedupParams(StageParams):
    """When two images count as one.

    The defaults were chosen on 4,269 OpenMoji drawings with EfficientNet-Lite0 at 96 px, where they join skin tones
    and re-encoded copies and keep 2,680: ImageNet features put any two simple drawings close together, so that the
    0.6 of copy-detection models (SSCD, arXiv 2304.07193) would join everything into one group. JPEG at quality 75
    takes a small drawing to cosine 0.92, which is why hashes are needed besides.
    """

    radius: int = Field(
        3, ge=0, le=32, description="Perceptual edge: at most so many of the 64 hash bits differ (and see `confirm`)."
    )
    confirm: float = Field(
        0.92,
        ge=-1,
        le=1,
        description="Cosine similarity that a perceptual edge needs besides; hashes alone chain drawings together.",
    )
    threshold: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Copy edge: cosine similarity of the embeddings from which two images count as one.",
    )
    neighbours: int = Field(64, ge=1, le=1024, description="Neighbours of each image in the k-NN graph.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.confirm > self.threshold:
            raise ValueError(
                f"confirm ({self.confirm}) is above threshold ({self.threshold}): perceptual edges would never add "
                "anything; lower confirm or raise threshold"
            )
        return self


class Dedup(Stage[DedupParams]):
    """Joins images with near-equal hashes or embeddings into groups and keeps the largest image of each."""

    type = "dedup"
    Params = DedupParams
    inputs = {"images": Input("images"), "embeddings": Input("embeddings")}
    output = "duplicates"

    def run(self, ctx: StageContext[DedupParams]) -> StageResult:
        from stages.dedup.grouping import deduplicate

        return deduplicate(ctx)
