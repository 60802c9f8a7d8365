"""A weighted sum of objectives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import nn

from training.backbones.interface import Backbone
from training.objectives.base import BatchNeed, Losses, Objective, ObjectiveConfig, StepState, create, objective
from training.recipes import ANY_VIEWS, SMALL_PAIRS, small_recipe, two_crops
from training.views import Views


@objective("weighted_sum")
class WeightedSum(Objective):
    """A Simple, Efficient and Scalable Contrastive Masked Autoencoder for Learning Visual Representations (Mishra et
    al., 2022, arXiv:2210.16870).

    A weighted sum of any objectives on one backbone; by default, as in that paper, a contrastive and a masked one.
    """

    class Config(ObjectiveConfig):
        terms: list[dict[str, Any]] = Field(
            [{"name": "simclr", "weight": 0.03}, {"name": "mae", "weight": 1.0}],
            min_length=1,
            description="Objectives, each with its name, its weight (1 if none is given) and its parameters.",
            json_schema_extra={"objectives": True},
        )

    views = two_crops()
    takes = ANY_VIEWS
    family = "sum"
    batch = BatchNeed(256, 4096)
    small = small_recipe(views=SMALL_PAIRS)

    def build(self, backbone: Backbone) -> None:
        self.terms = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        for given in self.config.terms:
            spec = dict(given)
            weight, name = float(spec.pop("weight", 1.0)), spec["name"]
            label = name if name not in self.terms else f"{name}_{len(self.terms)}"
            term = create(spec, backbone, self.rows)
            del term._modules["backbone"]  # held once, by the sum: its state and its parameters are not counted twice
            term.__dict__["backbone"] = backbone
            self.terms[label], self.weights[label] = term, weight

    def forward(self, batch: Views, state: StepState) -> Losses:
        terms = zip(self.terms, self._objectives(), strict=True)
        found = {label: term(_for(term, batch), state) for label, term in terms}
        total = torch.stack([self.weights[label] * losses.total for label, losses in found.items()]).sum()
        logged = {label: losses.total.detach() for label, losses in found.items()}
        inner = {f"{label}/{name}": v for label, losses in found.items() for name, v in losses.terms.items()}
        return Losses(total, next(iter(found.values())).features, {**logged, **inner})

    def spares_duplicates(self) -> bool:
        return any(term.spares_duplicates() for term in self._objectives())

    def after_step(self, state: StepState) -> None:
        for term in self._objectives():
            term.after_step(state)

    def frozen(self, steps_per_epoch: int) -> dict[str, int]:
        return {
            f"terms.{label}.{prefix}": steps
            for label, term in zip(self.terms, self._objectives(), strict=True)
            for prefix, steps in term.frozen(steps_per_epoch).items()
        }

    def export_backbone(self) -> Backbone:
        return self._objectives()[0].export_backbone()

    def _objectives(self) -> list[Objective]:
        return list(self.terms.values())  # type: ignore[arg-type]


def _for(term: Objective, batch: Views) -> Views:
    """The views of a batch that an objective can take: the first ones. Raises ValueError where there are too few."""
    crops = min(batch.full_size, term.takes.most or batch.full_size)
    refusal = term.takes.refusal(type(term).__name__, crops, 0)
    if refusal is not None:
        raise ValueError(refusal)
    views = batch.first(crops, term.takes.local_crops)
    return views if term.spares_duplicates() else replace(views, duplicates=None)
