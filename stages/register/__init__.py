"""The register stage: a model that others can load, with all that says where it came from."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from stages.base import Input, Stage, StageContext, StageParams, StageResult


class RegisterParams(StageParams):
    """Under which name the model goes to the registry."""

    name: str = Field(
        "curatrain-backbone",
        min_length=1,
        max_length=200,
        pattern=r"^[^/:]+$",
        description="Name of the registered model; no '/' and no ':'.",
    )
    alias: str = Field(
        "candidate",
        max_length=100,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Alias that this version gets, such as 'candidate'; empty for none.",
    )
    description: str = Field("", max_length=4000, description="What a reader should know; put on the model card.")

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
            raise ValueError(f"'{alias}' is reserved by MLflow's registry: choose another alias")
        return alias


class Register(Stage[RegisterParams]):
    """Packs the backbone as an MLflow model and as plain timm weights, with a model card and its lineage."""

    type = "register"
    Params = RegisterParams
    inputs = {"checkpoint": Input("checkpoint"), "metrics": Input("metrics")}
    output = "model"

    def code_modules(self) -> tuple[str, ...]:
        return ("stages.register.pyfunc_model",)

    def run(self, ctx: StageContext[RegisterParams]) -> StageResult:
        from stages.register.packing import pack_model

        return pack_model(ctx)
