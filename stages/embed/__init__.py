"""The embed stage: one vector for every image, by a frozen backbone."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from stages.base import EXECUTION, Input, Stage, StageContext, StageError, StageParams, StageResult


class EmbedParams(StageParams):
    """Which backbone looks at the images, and how."""

    model: str = Field("tf_efficientnet_lite0", description="timm model name.")
    weights: str = Field(
        "package:efficientnet-lite0",
        description="'package:NAME' (installed weights), a .safetensors or .pth file, 'hub' (timm downloads them), "
        "or 'random[:SEED]'.",
    )
    size: int = Field(112, ge=16, le=1024, description="Side in pixels to which images are resized.")
    batch: int = Field(
        0,
        ge=0,
        le=4096,
        description="Images in a forward pass; changes the last bits of the result. 0: 8 on CPUs, 256 on GPUs.",
    )
    actors: int = Field(
        0, ge=0, description="Workers; 0: as many as the CPUs carry, or one a GPU.", json_schema_extra=EXECUTION
    )
    threads: int = Field(2, ge=1, le=256, description="CPU threads of each worker.", json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _known(self) -> Self:
        from curation.model_names import check_model_name
        from curation.weights import check_weights

        check_model_name(self.model)
        check_weights(self.model, self.weights)
        return self


class Embed(Stage[EmbedParams]):
    """Embeds every image of the pool with a frozen timm backbone; takes over rows that an earlier pool had."""

    type = "embed"
    Params = EmbedParams
    inputs = {"images": Input("images")}
    output = "embeddings"

    def externals(self) -> dict[str, str]:
        from curation.weights import weights_digest

        try:
            return {"weights": weights_digest(self.params.model, self.params.weights)}
        except FileNotFoundError as error:
            raise StageError(f"{error} (parameter 'weights')") from None

    def run(self, ctx: StageContext[EmbedParams]) -> StageResult:
        from stages.embed.pool import embed_pool

        return embed_pool(ctx)
