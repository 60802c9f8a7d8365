"""A small training with everything that a checkpoint must hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.checkpoints import TrainingState
from training.optimisers import make_optimiser


class Network(nn.Module):
    """A student with batch statistics, a frozen teacher, a queue with its place, a centre, and an idle parameter."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.ModuleDict({"stem": nn.Linear(6, 7), "blocks": nn.ModuleList([nn.Linear(7, 7)])})
        self.norm = nn.BatchNorm1d(7)
        self.teacher = nn.Linear(6, 7).requires_grad_(False)
        self.idle = nn.Parameter(torch.randn(3, 5))
        self.scale = nn.Parameter(torch.tensor([2.0]))
        self.register_buffer("queue", torch.randn(9, 7))
        self.register_buffer("queue_place", torch.zeros((), dtype=torch.long))
        self.register_buffer("centre", torch.randn(7))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.backbone["blocks"][0](self.backbone["stem"](x)))
        with torch.no_grad():
            place = int(self.queue_place) % 9
            self.queue[place].copy_(out[0])
            self.queue_place.add_(1)
        return (self.scale * out - self.teacher(x) + self.centre + self.queue.mean()).square().mean()


def training(seed: int, name: str = "adamw") -> TrainingState:
    network = Network(seed)
    return TrainingState(network, make_optimiser(name, network, lr=0.01, weight_decay=0.05))


def learn(state: TrainingState, first: int, last: int) -> None:
    """Steps whose inputs are of the step alone."""
    for step in range(first, last):
        state.model(torch.randn(8, 6, generator=torch.Generator().manual_seed(step))).backward()
        state.optimiser.step()
        state.optimiser.zero_grad()


def content(state: TrainingState) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.collect().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        value.dtype == second[name].dtype and torch.equal(value, second[name]) for name, value in first.items()
    )
