"""What every loop is given: the same backbone, heads, tensors or pictures, batch and optimiser."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

PROJECTOR = {"simclr": (512, 128), "byol": (1024, 256)}
"""Hidden and output width, as lightly's examples have them."""
DECODER = {"dim": 192, "depth": 2, "heads": 3}
SGD = {"lr": 0.06, "momentum": 0.9, "weight_decay": 1e-4}
ADAMW = {"lr": 1.5e-4, "weight_decay": 0.05}
LOADING_WORKERS = 2


@dataclass(frozen=True)
class Workload:
    """One comparison.

    objective: simclr, byol or mae. backbone, options: for timm. size: side of a crop. steps: of a turn.
    pictures: folder of JPEG files to load and distort, or None for tensors that are already in memory.
    shards: the same pictures as shards. canvas: side of our decoded squares.
    """

    objective: str
    backbone: str
    options: dict[str, Any]
    size: int
    batch: int
    steps: int
    pictures: str | None = None
    shards: str | None = None
    canvas: int = 0

    def to_json(self) -> str:
        """One line, for a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Workload:
        return cls(**json.loads(text))

    @property
    def views(self) -> int:
        return 1 if self.objective == "mae" else 2

    def tensors(self) -> Tensor:
        """(views * batch, 3, size, size), the same numbers in every process."""
        torch.manual_seed(0)
        return torch.randn(self.views * self.batch, 3, self.size, self.size)

    def optimiser(self, parameters: Any) -> torch.optim.Optimizer:
        """What the loops that have no optimiser of their own use."""
        trained = [p for p in parameters if p.requires_grad]
        if self.objective == "mae":
            return torch.optim.AdamW(trained, **ADAMW)
        return torch.optim.SGD(trained, nesterov=True, **SGD)
