"""The pretrain stage: a self-supervised objective on shards, to a backbone that timm alone can load."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.base import EXECUTION, Input, Resources, Stage, StageContext, StageError, StageParams, StageResult


class ViewParams(StageParams):
    """How views are drawn; what is left out is as the objective's paper has it."""

    scale_min: float | None = Field(None, gt=0, le=1, description="Smallest share of the image that a crop covers.")
    scale_max: float | None = Field(None, gt=0, le=1, description="Largest share of the image that a crop covers.")
    flip: float | None = Field(None, ge=0, le=1, description="Probability of a horizontal flip.")
    jitter: float | None = Field(None, ge=0, le=1, description="Probability of the colour jitter.")
    brightness: float | None = Field(None, ge=0, le=1, description="Brightness factor is 1 +- this.")
    contrast: float | None = Field(None, ge=0, le=1, description="Contrast factor is 1 +- this.")
    saturation: float | None = Field(None, ge=0, le=1, description="Saturation factor is 1 +- this.")
    hue: float | None = Field(None, ge=0, le=0.5, description="Hue turns by up to +- this share of a circle.")
    grey: float | None = Field(None, ge=0, le=1, description="Probability of losing all colour.")
    blur: float | None = Field(None, ge=0, le=1, description="Probability of a Gaussian blur.")
    blur_sigma_min: float | None = Field(None, gt=0, description="Smallest sigma of the blur, pixels of the crop.")
    blur_sigma_max: float | None = Field(None, gt=0, description="Largest sigma of the blur, pixels of the crop.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("scale_min", "scale_max"), ("blur_sigma_min", "blur_sigma_max")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} ({least}) is above {high} ({most})")
        return self


class PretrainParams(StageParams):
    """What is trained, on what views, how long, and how."""

    objective: dict[str, Any] = Field(
        "simclr",
        validate_default=True,
        description="The objective's name, or a mapping of its name and parameters; `curatrain objectives` lists all.",
    )
    backbone: str = Field("resnet18", description="Architecture, by its timm name.")
    backbone_options: dict[str, bool | int | float | str | list[int]] = Field(
        {}, description="Further arguments of timm.create_model, such as patch_size, or a ResNet's channels."
    )
    init_from: str | None = Field(None, description="safetensors file of this architecture to start from.")
    image_size: int = Field(32, ge=8, le=1024, description="Side of a crop in pixels.")
    source_size: int = Field(
        0, ge=0, le=4096, description="Side of the decoded picture that crops are cut from; 0: twice image_size."
    )
    views: ViewParams = Field(ViewParams(), validate_default=True, description="Changes to the objective's own views.")
    steps: int | None = Field(None, ge=1, description="Optimiser steps (or give epochs).")
    epochs: int | None = Field(
        None, ge=1, description="Passes over the shards (or give steps); 100 if neither is given."
    )
    batch: int = Field(256, ge=2, description="Images of a step, over all workers.")
    optimiser: Literal["adamw", "sgd", "lars"] = Field("adamw", description="Optimiser.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of matrices and kernels.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd and lars.")
    beta2: float = Field(0.999, gt=0, lt=1, description="Second-moment decay of adamw.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    clip: float = Field(0.0, ge=0, description="Largest norm of the gradient; 0: no limit.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the initial weights, order, views and masks.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU.")
    workers: int = Field(0, ge=0, description="Ranks; 0: one a GPU, or one.", json_schema_extra=EXECUTION)
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="CPU threads of a rank; 0: its share of the CPUs. Changes the last bits of sums.",
        json_schema_extra=EXECUTION,
    )
    cache_mb: int = Field(
        1024, ge=0, description="Memory of a rank for decoded pictures.", json_schema_extra=EXECUTION
    )
    checkpoint_every: int = Field(200, ge=1, description="Steps between checkpoints.", json_schema_extra=EXECUTION)
    log_every: int = Field(10, ge=1, description="Steps between lines of the log.", json_schema_extra=EXECUTION)

    @field_validator("objective", mode="before")
    @classmethod
    def _full_objective(cls, given: Any) -> dict[str, Any]:
        from training.objectives import catalogue

        if not isinstance(given, str | dict):
            raise ValueError("an objective is a name, or a mapping of its name and parameters")
        return catalogue.resolve(given)

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        from training.backbones.names import check_name

        return check_name(name)

    @field_validator("views")
    @classmethod
    def _full_views(cls, views: ViewParams, info: ValidationInfo) -> ViewParams:
        from training.objectives import catalogue

        if "objective" not in info.data:
            return views
        recipe = catalogue.describe(info.data["objective"]["name"])["views"]
        changed = {name: value for name, value in views.model_dump().items() if value is not None}
        return ViewParams(**{name: changed.get(name, recipe[name]) for name in ViewParams.model_fields})

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        from training.backbones.names import is_vit
        from training.objectives import catalogue

        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        name = self.objective["name"]
        if catalogue.describe(name)["backbone"] == "vit" and not is_vit(self.backbone):
            raise ValueError(
                f"objective '{name}' hides patches and needs a plain vision transformer, not '{self.backbone}': "
                "set backbone to one such as vit_small_patch16_224, and backbone_options.patch_size to suit image_size"
            )
        named = re.search(r"patch(\d+)", self.backbone)
        patch = self.backbone_options.get("patch_size", int(named[1]) if named else 1)
        if is_vit(self.backbone) and isinstance(patch, int) and patch > 0 and self.image_size % patch:
            raise ValueError(
                f"patches of {patch} px do not tile images of {self.image_size} px: set image_size to a multiple, or "
                "backbone_options.patch_size to a divisor"
            )
        if self.workers and self.batch % self.workers:
            raise ValueError(f"a batch of {self.batch} does not divide among {self.workers} workers")
        return self


class Pretrain(Stage[PretrainParams]):
    """Trains a backbone by a self-supervised objective; exact under crashes, and the same on one rank or many."""

    type = "pretrain"
    Params = PretrainParams
    inputs = {"shards": Input("shards")}
    output = "checkpoint"

    def externals(self) -> dict[str, str]:
        if self.params.init_from is None:
            return {}
        path = Path(self.params.init_from)
        if not path.is_file():
            raise StageError(f"init_from: there is no file '{path}': give the safetensors file of a timm state dict")
        with path.open("rb") as file:
            return {"init_from": hashlib.file_digest(file, "sha256").hexdigest()}

    def code_modules(self) -> tuple[str, ...]:
        from training.objectives import catalogue

        return (catalogue.describe(self.params.objective["name"])["module"],)

    def resources(self) -> Resources:
        return Resources(cpus=max(1, self.params.workers))

    def run(self, ctx: StageContext[PretrainParams]) -> StageResult:
        from stages.pretrain.training_run import train_backbone

        return train_backbone(ctx)
