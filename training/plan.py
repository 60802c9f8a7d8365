"""Everything that a pretraining needs to know, as plain values that travel to every rank."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PretrainingPlan:
    """A pretraining.

    shards: folder of shards. work: folder for history, checkpoints and the final files.
    objective: full form, from `catalogue.resolve`. backbone: {"name": timm name, "kwargs": for `timm.create_model`}.
    views: values of a `ViewRecipe`. canvas_size: side of the decoded squares that crops are cut from.
    batch: images of a step over all ranks. warmup: steps. clip: largest gradient norm, 0 for no limit.
    init_from: safetensors file of backbone weights, or None. precision: "auto", "fp32" or "bf16".
    threads: of torch and of decoding on each rank, 0 for what torch chooses. keep: checkpoints that stay.
    stop_file: training saves a checkpoint and ends once this file exists.
    """

    shards: str
    work: str
    objective: dict[str, Any]
    backbone: dict[str, Any]
    image_size: int
    canvas_size: int
    views: dict[str, Any]
    steps: int
    batch: int
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    beta2: float = 0.999
    warmup: int = 0
    clip: float = 0.0
    seed: int = 0
    init_from: str | None = None
    precision: str = "auto"
    use_gpu: bool = True
    threads: int = 0
    cache_bytes: int = 1 << 30
    checkpoint_every: int = 500
    log_every: int = 10
    keep: int = 2
    stop_file: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the trip to the ranks."""
        return asdict(self)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of the running training."""
        return Path(self.work) / "checkpoints"
