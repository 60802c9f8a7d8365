"""The compare stage: evaluations of one pipeline in many variants, as one table with intervals over repetitions."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from stages.artifact import Artifact, artifact_at
from stages.base import EXECUTION, Input, Stage, StageContext, StageError, StageParams, StageResult


class BlindPairParams(StageParams):
    """Pairs of images that one model takes for alike and another sees as different."""

    above: float = Field(0.95, ge=-1, lt=1, description="Cosine over which a model takes two images for alike.")
    below: float = Field(0.6, gt=-1, le=1, description="Cosine under which a model sees two images as different.")
    centred: bool = Field(
        True,
        description="Take the mean of the images compared from the features first. Without it, the cosines of most "
        "pairs may be over 0.9 by a model whose features share a direction, and no pair is different to it.",
    )
    limit: int = Field(200, ge=1, le=100_000, description="Pairs to list of each two models, the widest gap first.")
    images: int = Field(
        4000, ge=2, le=50_000, description="Most held-out images, the first by id: all pairs of them are looked at."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.below > self.above:
            raise ValueError(f"below ({self.below}) has to be at most above ({self.above})")
        return self


class MemorisationParams(StageParams):
    """How much closer the views of single images lie for a model that was trained on them."""

    images: int = Field(
        256,
        ge=2,
        le=100_000,
        description="Images of each kind, chosen by hash: that one model alone was trained on, the other alone, both, "
        "neither.",
    )
    views: int = Field(
        8, ge=2, le=256, description="Views of an image, by the recipe of the trainings; whole rounds of its crops."
    )


class CompareParams(StageParams):
    """What the connected evaluations differ in, and what is compared with what."""

    cells: dict[str, dict[str, str]] = Field(
        description="Of each connected evaluation, by its name: its value on every axis, such as {selection: random, "
        "seed: '0'}.",
    )
    repeats: str = Field(
        "seed", description="The axis whose values are repetitions: means and intervals are taken over it."
    )
    baseline: dict[str, str] = Field(
        {"selection": "random"},
        description="What the others are compared with: the variant that has these values, and its own on other axes.",
    )
    measures: tuple[str, ...] = Field(
        ("knn_trained", "linear_trained", "rankme_trained"),
        min_length=1,
        description="Figures of the evaluations to compare; one that not all of them have is left out.",
    )
    remarks: tuple[str, ...] = Field(
        (), description="What a reader should know of how the variants were made; told beside the table."
    )
    pairwise: int = Field(
        4,
        ge=2,
        le=12,
        description="Most evaluations that are held against each other image by image, for blind pairs and "
        "memorisation: the first repetition of each variant, the baseline first, then the second ones.",
    )
    blind_pairs: BlindPairParams = Field(
        BlindPairParams(),
        description="Pairs that one model takes for alike (cosine above) and another sees as different (below), of "
        "centred features; limit to list, images to look at.",
    )
    memorisation: MemorisationParams | None = Field(
        None,
        description="Score how much single images are memorised, where training sets differ: {} for the defaults, or "
        "images of each of four kinds, and views. It costs that many forward passes of two models, for the baseline "
        "against each other.",
    )
    runs: dict[str, str] = Field(
        {},
        json_schema_extra={**EXECUTION, "artifact": "metrics"},
        description="Evaluations of earlier runs by the names of their cells: run:RUN or run:RUN/STAGE.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of every interval.")

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        axes = {tuple(sorted(values)) for values in self.cells.values()}
        if len(axes) != 1:
            raise ValueError("cells: give at least one evaluation, and each a value on the same axes")
        known = next(iter(axes))
        for axis in (self.repeats, *self.baseline):
            if axis not in known:
                raise ValueError(f"there is no axis '{axis}' among those of the cells: {', '.join(known)}")
        if self.repeats in self.baseline:
            raise ValueError(f"baseline: '{self.repeats}' is the axis of repetitions; name a value of another axis")
        return self


class Compare(Stage[CompareParams]):
    """Means over repetitions with their intervals, and paired differences to a baseline."""

    type = "compare"
    Params = CompareParams
    inputs = {"metrics": Input("metrics", optional=True, many=True)}
    output = "comparison"

    def externals(self) -> dict[str, str]:
        return {name: artifact.digest for name, artifact in sorted(self.earlier().items())}

    def unmet(self, connected: Collection[str]) -> list[str]:
        return [
            f"cells.{name}: connect its evaluation as inputs.metrics.{name}, or name one in runs"
            for name in self.params.cells
            if name not in self.params.runs and f"metrics.{name}" not in connected
        ]

    def earlier(self) -> dict[str, Artifact]:
        """The evaluations that `runs` names, by cell. Raises StageError where one cannot be read."""
        try:
            return {
                name: artifact_at(Path(path), json.loads((Path(path) / "manifest.json").read_text()))
                for name, path in self.params.runs.items()
            }
        except (OSError, ValueError, KeyError) as error:
            raise StageError(f"runs: an evaluation cannot be read ({error}); name one as run:RUN/STAGE") from None

    def run(self, ctx: StageContext[CompareParams]) -> StageResult:
        from stages.compare.comparing import compare

        return compare(ctx, {f"metrics.{name}": artifact for name, artifact in self.earlier().items()})
