"""What an objective is: a config, a view recipe, heads on a backbone, and a loss."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from training.backbones.first_weights import LIBRARY, FirstWeights
from training.backbones.interface import Backbone
from training.objectives import catalogue
from training.recipes import ANY_VIEWS, SmallRecipe, ViewNeeds, ViewRecipe
from training.views import Views


class ObjectiveConfig(BaseModel):
    """Parameters of an objective: unknown keys are errors, values never change. Each field has a description."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class StepState:
    """Where training stands: everything that a schedule or a mask may depend on.

    step: counted from 0. steps: of the whole training. epoch: that the step belongs to. seed: of the training.
    """

    step: int
    steps: int
    epoch: int
    seed: int


@dataclass
class Losses:
    """What an objective returns.

    total: scalar; its mean over ranks has the gradient of the loss of the global batch.
    terms: parts of it worth logging. features: (B, D) representations, watched for collapse.
    """

    total: Tensor
    features: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class BatchNeed(NamedTuple):
    """The global batch that an objective learns well from on: at the least, and the paper's."""

    least: int
    paper: int


class Objective(nn.Module):
    """A self-supervised objective. A subclass states its Config, views and family, builds heads, computes a loss.

    takes: which views it can do with. suits: backbones that it works with: "any", or "vit" where it drops or
    masks patch tokens. batch: what it needs. prefers_balanced: whether it carries a hidden prior to clusters of equal
    size, as most that look at a batch's statistics do (Assran et al., 2022, arXiv:2210.07277), so that a curation
    which balances concepts helps it. small: what it learns with where images, batches and time are few.
    first_weights: what the paper starts a vision transformer from (see `training.backbones.first_weights`).
    The docstring's first paragraph is "Title (Authors, year, arXiv:id)."; the second says what it does.
    All state that training must not lose lives in parameters and buffers. What moves in the forward pass (a queue, a
    centre) moves in training mode alone, like a batch norm's statistics.
    rows: number of training samples, whose `Views.rows` count from 0 in the order of image ids; 0 where unknown.
    """

    Config: ClassVar[type[ObjectiveConfig]]
    views: ClassVar[ViewRecipe]
    takes: ClassVar[ViewNeeds] = ANY_VIEWS
    family: ClassVar[str]
    suits: ClassVar[Literal["any", "vit"]] = "any"
    batch: ClassVar[BatchNeed] = BatchNeed(32, 256)
    prefers_balanced: ClassVar[bool] = False
    small: ClassVar[SmallRecipe] = SmallRecipe()
    first_weights: ClassVar[FirstWeights] = LIBRARY

    def __init__(self, backbone: Backbone, config: Any, rows: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.rows = rows
        self.build(backbone)
        self.register_forward_hook(_with_auxiliary)

    def build(self, backbone: Backbone) -> None:
        """Create the heads that this objective trains beside the backbone."""

    def forward(self, batch: Views, state: StepState) -> Losses:
        """The loss of this rank's share of the global batch."""
        raise NotImplementedError

    def after_step(self, state: StepState) -> None:
        """Move what does not learn by gradients (a teacher, a centre), after the optimiser's step and without grad."""

    def pooled(self, batch: Views) -> Tensor:
        """(V * B, D) pooled features of the crops of all sizes, view by view, in one packed pass where possible."""
        return torch.cat([tokens.pooled for tokens in self.backbone.tokens_of(batch.groups)])

    def blind_loss(self, batch: int) -> float | None:  # noqa: ARG002
        """The loss, without regularisers, of a network that tells nothing apart, or None where that is no number.

        batch: images that a loss is computed over: of all ranks, in one micro-batch.
        """
        return None

    def spares_duplicates(self) -> bool:
        """Whether it wants `Views.duplicates`, to let images that show the same be no negatives of each other."""
        return getattr(self.config, "spare_duplicates", False)

    def frozen(self, steps_per_epoch: int) -> dict[str, int]:  # noqa: ARG002
        """First steps in which parameters whose names start with a prefix do not learn, by prefix."""
        return {}

    def row_weights(self, epoch: int) -> Tensor | None:  # noqa: ARG002
        """(rows,) weights that rows are drawn by from `epoch` on, or None to go on with those in force.

        Asked before each epoch but the first, after the last step of the one before. They stand in place of the
        selection's weights; shares of sources and homogeneous batches stay. Every rank has to return the same, so what
        a rank learned of its own rows must be gathered. Checkpoints hold them. What they are computed from belongs in
        buffers, indexed by `Views.rows`. A plug-in can subclass any objective for this method alone.
        """
        return None

    def export_backbone(self) -> Backbone:
        """The backbone that this training is for: the trained one, or its teacher where the paper evaluates that."""
        return self.backbone

    def heads(self) -> dict[str, Tensor]:
        """State of everything but the backbone, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}


def _with_auxiliary(objective: Objective, _arguments: Any, losses: Losses) -> Losses:
    """Add the losses that the trained backbone brings itself (see `Backbone.take_auxiliary`), and have them logged."""
    for name, value in objective.backbone.take_auxiliary().items():
        losses.total = losses.total + value
        losses.terms[name] = value.detach()
    return losses


C = TypeVar("C", bound=type[Objective])
_REGISTRY: dict[str, type[Objective]] = {}


def objective(name: str) -> Callable[[C], C]:
    """Register an objective class under a name."""

    def register(cls: C) -> C:
        _REGISTRY[name] = cls
        return cls

    return register


def registered() -> dict[str, type[Objective]]:
    """The classes registered so far, by name."""
    return dict(_REGISTRY)


def create(spec: str | dict[str, Any], backbone: Backbone, rows: int = 0) -> Objective:
    """Build an objective on a backbone, for `rows` training samples.

    Raises ValueError where the spec is wrong (see `catalogue.resolve`).
    """
    given = catalogue.resolve(spec)
    name = given.pop("name")
    importlib.import_module(catalogue.describe(name)["module"])
    cls = _REGISTRY[name]
    return cls(backbone, cls.Config.model_validate(given), rows)
