"""SwAV."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from training.backbones.interface import Backbone
from training.feature_queue import FeatureQueue
from training.heads import MLPHead
from training.losses.self_distillation import cross_view_entropy
from training.losses.sinkhorn import sinkhorn_knopp
from training.objectives.base import BatchNeed, Losses, Objective, StepState, objective
from training.process_group import rank, world
from training.prototypes import Prototypes, assignment_figures
from training.recipes import SEVERAL_VIEWS, SMALL_PAIRS, multi_crop, small_recipe
from training.spreading import SpreadingConfig
from training.views import Views


@objective("swav")
class SwAV(Objective):
    """Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020,
    arXiv:2006.09882).

    Each view predicts the balanced cluster assignment of the other views; small crops join in.
    """

    class Config(SpreadingConfig):
        temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of the predictions.")
        epsilon: float = Field(0.05, gt=0, le=10, description="Temperature of the assignments.")
        iterations: int = Field(3, ge=1, le=100, description="Sinkhorn-Knopp iterations.")
        prototypes: int = Field(3000, ge=2, description="Prototypes; fewer than training images.")
        queue: int = Field(0, ge=0, description="Earlier features that balance the assignments of a small batch.")
        queue_warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps before the queue is used.")
        frozen_epochs: int = Field(1, ge=0, description="Epochs in which the prototypes stay as they are.")
        projection: MLPHead.Config = Field(
            MLPHead.Config(layers=2, hidden=2048, out=128, output_norm=False),
            description="The projector; features are taken before it.",
        )

    views = multi_crop(local_crops=6, global_scale=0.14, local_scale=0.14)
    takes = SEVERAL_VIEWS
    family = "clustering"
    batch = BatchNeed(256, 4096)
    prefers_balanced = True
    small = small_recipe(
        {
            "prototypes": 128,
            "frozen_epochs": 0,
            "koleo_weight": 0.1,
            "koleo_on": "head",
            "projection": {"hidden": 512},
        },
        SMALL_PAIRS,
    )

    def build(self, backbone: Backbone) -> None:
        self.projector = MLPHead(backbone.dim, self.config.projection)
        self.prototypes = Prototypes(self.config.projection.out, self.config.prototypes)
        queues = self.views.crops if self.config.queue else 0
        self.queues = torch.nn.ModuleList(
            FeatureQueue(self.config.queue, self.config.projection.out) for _ in range(queues)
        )

    def blind_loss(self, batch: int) -> float:  # noqa: ARG002
        return math.log(self.config.prototypes)

    def forward(self, batch: Views, state: StepState) -> Losses:
        features = self.pooled(batch)  # (V B, D)
        projected = self.projector(features).unflatten(0, (-1, len(batch.rows)))
        logits = self.prototypes(projected)  # (V, B, K)
        codes = torch.stack([self._codes(projected[v], logits[v], v, state) for v in range(batch.full_size)])
        loss = cross_view_entropy(codes, logits, self.config.temperature)
        terms = assignment_figures(codes)
        full = features.split(len(batch.rows))[: batch.full_size]
        return Losses(self.config.spread(loss, terms, full, projected[: batch.full_size].unbind()), features, terms)

    @torch.no_grad()
    def _codes(self, projected: Tensor, logits: Tensor, view: int, state: StepState) -> Tensor:
        """Balanced assignments of one view, together with those of the queue once it is full."""
        B, earlier = len(logits), logits[:0]
        if view < len(self.queues):
            queue: FeatureQueue = self.queues[view]  # type: ignore[assignment]
            full = max(self.config.queue_warmup * state.steps, self.config.queue / (B * world()))
            if state.step >= full:  # every rank takes its share, so that all together count each feature once
                earlier = self.prototypes(queue.features[rank() :: world()]).to(logits.dtype)
            if self.training:
                queue.push(torch.nn.functional.normalize(projected.detach(), dim=1))
        return sinkhorn_knopp(torch.cat([logits, earlier]), self.config.epsilon, self.config.iterations)[:B]

    def frozen(self, steps_per_epoch: int) -> dict[str, int]:
        return {"prototypes.": self.config.frozen_epochs * steps_per_epoch}
