"""The pretrain stage: a self-supervised objective on shards, to a backbone that timm alone can load."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.base import (
    EXECUTION,
    EXPANDED,
    Input,
    Resources,
    Stage,
    StageContext,
    StageError,
    StageParams,
    StageResult,
)
from stages.pretrain.groups import LrScheduleParams, SamplingParams, ViewParams


class PretrainParams(StageParams):
    """What is trained, on what views, how long, and how."""

    preset: Literal["paper", "small"] = Field(
        "paper",
        description="Where defaults come from: the objective's paper, or its small recipe (parameters, views, "
        "training, sizes) that learns from some thousand small images in minutes. What is given goes before it.",
        json_schema_extra=EXPANDED,
    )
    objective: dict[str, Any] = Field(
        "simclr",
        validate_default=True,
        description="The objective's name, or a mapping of its name and parameters; `curatrain objectives` lists all.",
    )
    backbone: str = Field(
        "auto",
        description="Architecture: a timm name, or open_clip:NAME for a vision tower; auto: resnet18, or for "
        "objectives that hide patches a small vision transformer with patches of an eighth of image_size.",
    )
    backbone_options: dict[str, bool | int | float | str | list[int]] = Field(
        {},
        description="Further arguments of timm.create_model, such as patch_size or reg_tokens (for open_clip: changes "
        "to vision_cfg); token_boost: true, or numbers of blocks, adds token boosting with weight token_boost_weight.",
    )
    init_from: str | None = Field(
        None,
        description="Weights to start from: a file, a checkpoint's folder, run:RUN or run:RUN/STAGE, timm:NAME.TAG, "
        "open_clip:NAME/TAG. Their content enters the key, not this text.",
        json_schema_extra={**EXECUTION, "artifact": "checkpoint"},
    )
    first_weights: Literal["auto", "library", "mae", "moco_v3", "ijepa"] = Field(
        "auto",
        description="What a vision transformer without init_from starts from: as the library has it, or as a paper "
        "does; auto: the objective's own paper.",
    )
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
    sampling: SamplingParams = Field(SamplingParams(), description="Which samples an epoch holds, and how often.")
    accumulate: int = Field(
        1,
        ge=1,
        description="Parts that a batch is trained in, to save memory. What looks at whole batches (negatives, batch "
        "norm, Sinkhorn) sees a part.",
    )
    optimiser: Literal["adamw", "adam_c", "sgd", "lars", "lamb", "muon"] = Field("adamw", description="Optimiser.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    lr_schedule: LrScheduleParams = Field(LrScheduleParams(), description="Its course, and its scaling by the batch.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="A layer's learning rate is this times that of the layer above it."
    )
    patch_embed_lr: float = Field(1.0, gt=0, le=1, description="Factor on the patch embedding's learning rate.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of matrices and kernels.")
    weight_decay_end: float | None = Field(
        None, ge=0, description="Weight decay at the end, reached along half a cosine; else it stays."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd, lars and muon.")
    beta2: float = Field(0.999, gt=0, lt=1, description="Second-moment decay of adamw, adam_c, lamb and muon's adamw.")
    critical_gradients: int = Field(5, ge=0, description="Earlier gradients of each tensor that adam_c keeps.")
    critical_decay: float = Field(0.7, ge=0, le=1, description="Decay a step of the norms that adam_c keeps them by.")
    clip: float = Field(0.0, ge=0, description="Largest norm of the gradient; 0: no limit.")
    clip_by: Literal["global", "module"] = Field(
        "global", description="One norm for all gradients, or one each for the backbone and every head."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the initial weights, order, views and masks.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU (fp16 on one without), fp32 on a CPU."
    )
    keep_best: bool = Field(
        False, description="Export the best checkpoint by best_by beside the last, into the folder best."
    )
    best_by: str = Field("rankme", description="rankme, knn, or another figure of the log; losses: lowest is best.")
    evaluate_every: int = Field(
        0,
        ge=0,
        description="Steps between looks at features: RankMe, and kNN accuracy where there are labels; 0: none.",
    )
    workers: int = Field(0, ge=0, description="Ranks; 0: one a GPU, or one.", json_schema_extra=EXECUTION)
    parallel: Literal["auto", "flat", "ddp", "fsdp"] = Field(
        "auto",
        description="Between ranks: replicas (flat on CPUs, ddp on GPUs) or shards (fsdp). auto shards what would "
        "fill half of a GPU. Changes the last bits of sums.",
        json_schema_extra=EXECUTION,
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="CPU threads of a rank; 0: its share of the CPUs. Changes the last bits of sums.",
        json_schema_extra=EXECUTION,
    )
    compile: bool = Field(
        False, description="Compile the model's blocks by torch.compile.", json_schema_extra=EXECUTION
    )
    recompute: bool = Field(
        False, description="Recompute activations of blocks instead of keeping them.", json_schema_extra=EXECUTION
    )
    augment_on: Literal["auto", "loader", "device"] = Field(
        "auto",
        description="Where views are made: on the CPU ahead of the training, or on the training device. auto: a "
        "measurement of twenty steps, where a thousand or more follow; else the device.",
        json_schema_extra=EXECUTION,
    )
    cache_mb: int = Field(
        1024, ge=0, description="Memory of a rank for decoded pictures.", json_schema_extra=EXECUTION
    )
    checkpoint_every: int = Field(200, ge=1, description="Steps between checkpoints.", json_schema_extra=EXECUTION)
    keep_last: int = Field(2, ge=1, description="Newest checkpoints that stay.", json_schema_extra=EXECUTION)
    log_every: int = Field(10, ge=1, description="Steps between lines of the log.", json_schema_extra=EXECUTION)

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        from stages.pretrain.presets import with_preset

        return with_preset(given) if isinstance(given, dict) else given

    @field_validator("objective", mode="before")
    @classmethod
    def _full_objective(cls, given: Any, info: ValidationInfo) -> dict[str, Any]:
        from training.objectives import catalogue

        if not isinstance(given, str | dict):
            raise ValueError("an objective is a name, or a mapping of its name and parameters")
        return catalogue.resolve(given, small=info.data.get("preset") == "small")

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        from training.backbones.names import check_name

        return check_name(name)

    @field_validator("views")
    @classmethod
    def _full_views(cls, views: ViewParams, info: ValidationInfo) -> ViewParams:
        from training.objectives import catalogue
        from training.recipes import NAMED, ViewNeeds

        if "objective" not in info.data:
            return views
        name, *terms = catalogue.parts(info.data["objective"])
        changed = {key: value for key, value in views.model_dump().items() if value is not None}
        known = catalogue.describe(name)
        small = known["small"]["views"] if info.data.get("preset") == "small" else {}
        full = {**known["views"], **small, **NAMED[changed.pop("recipe", "paper")], **changed}
        crops = full["crops"]
        refusals = [ViewNeeds(**catalogue.describe(name)["takes"]).refusal(name, crops, full["local_crops"])]
        for term in terms:  # which gets the first crops that it can take
            needs = ViewNeeds(**catalogue.describe(term)["takes"])
            refusals.append(needs.refusal(term, min(crops, needs.most or crops), 0))
        if any(refusals):
            raise ValueError("; ".join(filter(None, refusals)))
        return ViewParams(**full)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        from training.backbones.names import check_options, is_vit, patch_size
        from training.objectives import catalogue

        check_options(self.backbone, self.backbone_options)
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        hiding = [n for n in catalogue.parts(self.objective) if catalogue.describe(n)["backbone"] == "vit"]
        if hiding and not is_vit(self.backbone):
            raise ValueError(
                f"objective '{hiding[0]}' hides patches and needs a plain vision transformer, not '{self.backbone}': "
                "set backbone to one such as vit_small_patch16_224, and backbone_options.patch_size to suit image_size"
            )
        patch = self.backbone_options.get("patch_size", patch_size(self.backbone))
        if is_vit(self.backbone) and isinstance(patch, int) and patch > 0 and self.image_size % patch:
            raise ValueError(
                f"patches of {patch} px do not tile images of {self.image_size} px: set image_size to a multiple, or "
                "backbone_options.patch_size to a divisor"
            )
        patch = patch if isinstance(patch, int) and patch > 0 else 1
        if (
            self.views.local_crops
            and self.views.local_size
            and is_vit(self.backbone)
            and self.views.local_size % patch
        ):
            raise ValueError(
                f"patches of {patch} px do not tile local crops of {self.views.local_size} px: set views.local_size "
                "to a multiple, or to 0"
            )
        if self.views.resize is False and 0 < self.source_size < self.image_size:
            raise ValueError(
                f"views of {self.image_size} px are cut without resizing: source_size ({self.source_size}) must not "
                "be less"
            )
        if self.workers and self.batch % (self.workers * self.accumulate):
            parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
            raise ValueError(f"a batch of {self.batch}{parts} does not divide among {self.workers} workers")
        if self.batch % self.accumulate:
            raise ValueError(f"a batch of {self.batch} does not divide into {self.accumulate} parts")
        if self.keep_best and self.best_by in ("rankme", "knn") and not self.evaluate_every:
            raise ValueError(
                f"keep_best by {self.best_by} needs evaluate_every: give it a number of steps, such as 200"
            )
        return self


class Pretrain(Stage[PretrainParams]):
    """Trains a backbone by a self-supervised objective; exact under crashes, and the same on one rank or many."""

    type = "pretrain"
    Params = PretrainParams
    inputs = {"shards": Input("shards"), "init": Input("checkpoint", optional=True, by_name=True)}
    output = "checkpoint"

    def externals(self) -> dict[str, str]:
        if self.params.init_from is None:
            return {}
        from training.backbones.sources import weights_digest

        try:
            return {"init_from": weights_digest(self.params.init_from)}
        except ValueError as error:
            raise StageError(f"init_from: {error}") from None

    def code_modules(self) -> tuple[str, ...]:
        from training.objectives import catalogue

        names = dict.fromkeys(catalogue.parts(self.params.objective))
        return tuple(catalogue.describe(name)["module"] for name in names)

    def resources(self) -> Resources:
        return Resources(cpus=max(1, self.params.workers), exclusive=self.params.workers == 0)

    def run(self, ctx: StageContext[PretrainParams]) -> StageResult:
        from stages.pretrain.training_run import train_backbone

        return train_backbone(ctx)
