"""What happens when a loss or a gradient is not finite: go back, name the culprits, leave the batch out, go on.

A step is a function of its number, so the training goes back to its last checkpoint by starting again from it, and
takes every step as before up to the one that failed. There it looks at that batch once more, without learning from
it, writes down which rank, rows and tensors are to blame, and leaves the step out: no update, while schedules and
order go on. Which steps are left out stands in a file, so a later crash and resume ends with the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from training.process_group import rank, world

NONFINITE = "nonfinite.jsonl"
LIMIT = 3
"""Batches that may be left out before the training is given up: by then it is not the batches."""


class NonFiniteError(ArithmeticError):
    """Losses or gradients keep being infinite or not a number."""


class GoBack(Exception):  # noqa: N818 - a turn that the training takes, not an error
    """A step was not finite; the training starts again from its last checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(f"step {step + 1} was not finite")
        self.step = step


class LeftOut:
    """The steps that are left out, and why: one JSON line each in `nonfinite.jsonl`, written by rank 0.

    Keys of a line: step (finished steps before it, plus 1), ranks: for each rank that saw something, its number, the
    rows and image ids of its share of the batch, and the tensors that were not finite. `ranks` is missing until the
    step was examined.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NONFINITE
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._found: dict[int, dict[str, Any]] = {entry["step"] - 1: entry for entry in map(json.loads, lines)}

    def __contains__(self, step: int) -> bool:
        return step in self._found

    def add(self, step: int) -> None:
        """Leave `step` (counted from 0) out from now on."""
        self._found[step] = {"step": step + 1}
        self._write()

    def examined(self, step: int) -> bool:
        return "ranks" in self._found[step]

    def examine(self, step: int, mine: dict[str, Any] | None) -> None:
        """Write down what the ranks saw; `mine` is this rank's part, or None where all was finite.

        Raises NonFiniteError once too many steps are left out.
        """
        parts: list[Any] = [mine]
        if world() > 1:
            parts = [None] * world()
            dist.all_gather_object(parts, mine)
        self._found[step]["ranks"] = [part for part in parts if part is not None]
        self._write()
        if len(self._found) >= LIMIT:
            raise NonFiniteError(self._complaint(step))

    def _complaint(self, step: int) -> str:
        seen = "; ".join(f"on rank {part['rank']} {_some(part['tensors'])}" for part in self._found[step]["ranks"])
        return (
            f"losses or gradients were not finite for {len(self._found)} batches, the last one at step {step + 1}: "
            "try a lower lr, a longer warmup, or a limit on the gradient norm (clip: 1.0). Not finite there: "
            f"{seen or 'nothing, the second time'}. {NONFINITE} has the rows and image ids of each batch"
        )

    def _write(self) -> None:
        if rank() == 0:
            temporary = self._path.with_name(f".{self._path.name}.tmp")
            temporary.write_text("".join(json.dumps(self._found[step]) + "\n" for step in sorted(self._found)))
            temporary.replace(self._path)


def _some(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def nonfinite_tensors(tensors: Iterable[tuple[str, Tensor | None]]) -> list[str]:
    """Names of the tensors that hold an infinite value or none; the host waits for the device once."""
    named = [(name, value) for name, value in tensors if value is not None and value.is_floating_point()]
    if not named:
        return []
    flags = torch.stack([(~torch.isfinite(_local(value)).all()).to("cpu", non_blocking=True) for _, value in named])
    return [name for (name, _), bad in zip(named, flags.tolist(), strict=True) if bad]


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def culprits(module: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> list[str]:
    """Names of what is not finite: parameters and buffers, then loss terms, then gradients.

    losses: runs forward and backward of this rank's share and returns the loss's terms. Gradients are left as they
    come from there.
    """
    found = [f"parameter {name}" for name in nonfinite_tensors(module.named_parameters())]
    found += [f"buffer {name}" for name in nonfinite_tensors(module.named_buffers())]
    found += [f"loss term {name}" for name in nonfinite_tensors(losses().items())]
    gradients = ((name, parameter.grad) for name, parameter in module.named_parameters())
    return found + [f"gradient of {name}" for name in nonfinite_tensors(gradients)]
