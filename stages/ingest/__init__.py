"""Ingest: one row for each distinct picture that truly decodes, and a row with the reason for each that does not."""

from __future__ import annotations

from pydantic import Field

from stages.base import EXECUTION, Input, Stage, StageContext, StageParams, StageResult


class IngestParams(StageParams):
    """What counts as a usable picture."""

    max_pixels: int = Field(
        100_000_000, ge=1, description="Larger pictures are rejected from their header alone, before decoding."
    )
    min_side: int = Field(8, ge=1, description="Pictures with a shorter side in pixels are rejected.")
    max_rejected_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The stage fails if a larger share of the distinct files is rejected.",
        json_schema_extra=EXECUTION,
    )
    workers: int = Field(
        0, ge=0, description="Decoding workers; 0 takes as many as there are CPUs.", json_schema_extra=EXECUTION
    )
    task_rows: int = Field(256, ge=1, description="Rows that a crash may cost.", json_schema_extra=EXECUTION)


class Ingest(Stage[IngestParams]):
    """Decode check, upright size, perceptual hash; files with the same bytes become one image with all its URLs."""

    type = "ingest"
    Params = IngestParams
    inputs = {"fetches": Input("fetches")}
    output = "images"

    def run(self, ctx: StageContext[IngestParams]) -> StageResult:
        from stages.ingest.ingesting import ingest

        return ingest(ctx)
