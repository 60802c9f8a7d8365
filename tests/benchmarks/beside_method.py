"""What a peer's method is to the training loop that all peers share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

Spec = dict[str, Any]


class Method(nn.Module):
    """A peer's heads, loss and teacher around a backbone, a timm model.

    spec: the full form of our objective. steps: of the training. step: finished ones.
    """

    def __init__(self, backbone: Any, spec: Spec, steps: int) -> None:
        super().__init__()
        self.backbone, self.spec, self.steps, self.step = backbone, spec, steps, 0
        self.dim = backbone.num_features
        self.build()

    def build(self) -> None:
        """Create what stands around the backbone."""

    def forward(self, views: list[Tensor]) -> Tensor:
        """The loss of a batch's views."""
        raise NotImplementedError

    def before_update(self, epoch: int) -> None:
        """What comes between the gradients and the optimiser's step."""

    def after_update(self) -> None:
        """What follows the optimiser's step."""
        self.step += 1

    @property
    def exported(self) -> Any:
        """The backbone that is evaluated: ours is the student, or the teacher where its paper takes that."""
        return self.backbone
