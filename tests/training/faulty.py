"""An objective that is not finite where it is told to, and how the loop's tests run it."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pydantic import Field

from training.backbones.interface import Backbone
from training.loop import pretrain
from training.objectives import catalogue
from training.objectives.base import Losses, Objective, ObjectiveConfig, StepState, objective
from training.plan import PretrainingPlan
from training.recipes import one_crop
from training.views import Views

VIT = {"name": "test_vit", "kwargs": {"img_size": 16, "patch_size": 8}}


@objective("faulty")
class Faulty(Objective):
    """Samples Apart From Each Other (Nobody, 2020, arXiv:2001.00001).

    Pulls features to a fixed target, sample by sample; not finite at given steps or for given rows.
    """

    class Config(ObjectiveConfig):
        steps: list[int] = Field([], description="Steps whose loss is not a number.")
        rows: list[int] = Field([], description="Rows whose loss is not a number.")
        gradient_steps: list[int] = Field([], description="Steps whose loss is finite and whose gradient is not.")

    views = one_crop()
    family = "test"

    def build(self, backbone: Backbone) -> None:
        self.head = torch.nn.Linear(backbone.dim, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch: Views, state: StepState) -> Losses:
        features = self.backbone(batch.crops).pooled
        self.seen += 1
        target = torch.stack([crop.mean((1, 2)) for crop in batch.crops])
        errors = (self.head(features)[:, :3] - target).square().mean(1)
        bad = torch.tensor([state.step in self.config.steps or row in self.config.rows for row in batch.rows.tolist()])
        errors = errors * torch.where(bad, float("nan"), 1.0)
        total = errors.mean()
        if state.step in self.config.gradient_steps:
            total = total + torch.sqrt(self.head.bias[3] * 0)
        return Losses(total, features, {"error": errors.detach().mean()})


def faulty_plan(shards: Path, work: Path, faults: dict[str, Any] | None = None, **changed: Any) -> PretrainingPlan:
    """A few quick steps of `Faulty`."""
    work.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "shards": str(shards),
        "work": str(work),
        "objective": {"name": "faulty", "steps": [], "rows": [], "gradient_steps": [], **(faults or {})},
        "backbone": VIT,
        "image_size": 16,
        "canvas_size": 24,
        "views": one_crop().to_dict(),
        "steps": 8,
        "batch": 8,
        "optimiser": "sgd",
        "lr": 0.005,
        "log_every": 1,
        "checkpoint_every": 3,
        "threads": 1,
        "use_gpu": False,
    }
    return PretrainingPlan(**{**values, **changed})


def train(config: dict[str, Any]) -> None:
    """`pretrain` in a process in which "faulty" is an installed plug-in."""
    point = EntryPoint("faulty", "tests.training.faulty:Faulty", catalogue.ENTRY_POINTS)
    with mock.patch.object(catalogue, "_plug_ins", lambda: {"faulty": point}):
        pretrain(config)


def train_all(config: dict[str, Any]) -> None:
    """Several trainings after each other on the same ranks."""
    for plan in config["plans"]:
        train(plan)
