"""The evaluate stage: is what the backbone learned worth more than an untrained one, and than raw pixels?"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.base import EXECUTION, Input, Stage, StageContext, StageParams, StageResult


class EvaluateParams(StageParams):
    """On which images a checkpoint is probed, and by which protocol."""

    protocol: Literal["curatrain-v1", "curatrain-v2"] = Field(
        "curatrain-v2",
        description="Versioned settings of the measures: only figures of one protocol and one split may be compared. "
        "v1: kNN, a linear probe and three label-free measures. v2: all there are.",
    )
    bank: Literal["train", "pool"] = Field(
        "train",
        description="Labelled images that the probes learn from: those trained on, or 'pool': all but those held out, "
        "near-duplicates, leaks and what a filter drops, the same for every selection of one pool, so that selections "
        "can be compared.",
    )
    max_per_class: int = Field(
        250, ge=1, description="Labelled images of a class that the probes learn from, chosen by hash."
    )
    max_queries_per_class: int = Field(
        100, ge=1, description="Held-out images of a class that the probes are tested on, chosen by hash."
    )
    min_class_size: int = Field(
        8, ge=2, description="Classes with fewer labelled training images, or without a held-out one, are left out."
    )
    k_grid: tuple[int, ...] = Field(
        (10, 20, 100, 200),
        min_length=1,
        description="Numbers of neighbours to report beside the protocol's own.",
    )
    max_unlabelled: int = Field(
        2000, ge=16, description="Training images for the label-free measures where a pool has too few labels."
    )
    robustness: Literal["none", "quick", "full"] = Field(
        "quick",
        description="Under protocol v2, what changed pictures cost: corruptions, less resolution, tighter crops, "
        "invariance to transformations, a mark that gives the class away. 'quick': five corruptions in three "
        "strengths on 200 held-out images; 'full': all fifteen in five on up to 2,000, and self-learning on them.",
    )
    fine_tune: Literal["none", "partial", "full"] = Field(
        "none",
        description="Tune the backbone itself on the labelled images and test it on those held out, beside the same "
        "done with the untrained one: 'full', or 'partial' for the last quarter of the blocks. Minutes on a CPU.",
    )
    fine_tune_images: int = Field(
        20_000, ge=1, description="Training pictures that fine-tuning sees in all, which sets its number of epochs."
    )
    attentive_probe: bool = Field(
        False,
        description="Also a probe that attends to patch tokens, which suits backbones trained by masking, and takes "
        "minutes on a CPU.",
    )
    allow_unguarded: bool = Field(
        False,
        description="Measure on evaluation sets that dedup has not kept out of the training images, and mark the "
        "figures.",
    )
    seed: int = Field(0, ge=0, description="Seed of the choice of images, of held-out rows and of the bootstrap.")
    batch: int = Field(64, ge=1, le=4096, description="Images in a forward pass; changes the last bits of features.")
    actors: int = Field(
        0, ge=0, description="Workers; 0: as many as the CPUs carry, or one a GPU.", json_schema_extra=EXECUTION
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads of each worker.", json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _wide_measures(self) -> Self:
        for name, without in (("fine_tune", "none"), ("attentive_probe", False)):
            if self.protocol == "curatrain-v1" and getattr(self, name) != without:
                raise ValueError(f"{name} is no part of protocol curatrain-v1: set protocol to curatrain-v2")
        return self


class Evaluate(Stage[EvaluateParams]):
    """Probes the trained backbone, the same backbone untrained, and raw pixels on held-out labelled images."""

    type = "evaluate"
    Params = EvaluateParams
    inputs = {
        "checkpoint": Input("checkpoint"),
        "images": Input("images"),
        "selection": Input("selection"),
        "evaluation_images": Input("images", optional=True, by_name=True),
        "duplicates": Input("duplicates", optional=True, by_name=True),
        "quality": Input("quality", optional=True, by_name=True),
    }
    output = "metrics"

    def run(self, ctx: StageContext[EvaluateParams]) -> StageResult:
        from stages.evaluate.measure import evaluate_checkpoint

        return evaluate_checkpoint(ctx)
