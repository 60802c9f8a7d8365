"""The shard stage: the selected images, sorted by id, in files that training maps into memory."""

from __future__ import annotations

from pydantic import Field

from stages.base import EXECUTION, Input, Stage, StageContext, StageParams, StageResult


class ShardParams(StageParams):
    """How samples are laid out. Their order and content do not depend on it."""

    rows_per_shard: int = Field(
        4096, ge=1, le=1_000_000, description="Samples of a shard file.", json_schema_extra=EXECUTION
    )
    actors: int = Field(
        0, ge=0, description="Workers that write; 0: as many as there are CPUs.", json_schema_extra=EXECUTION
    )


class Shard(Stage[ShardParams]):
    """Writes the training rows of a selection, with their encoded bytes, as Arrow IPC shards."""

    type = "shard"
    Params = ShardParams
    inputs = {"images": Input("images"), "selection": Input("selection")}
    output = "shards"

    def run(self, ctx: StageContext[ShardParams]) -> StageResult:
        from stages.shard.merge import write_shards

        return write_shards(ctx)
