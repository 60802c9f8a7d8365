"""What a checkpoint holds: every tensor by name, and plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import Optimizer

from training.checkpoints.committed import CheckpointError

MODEL, OPTIMISER, TENSORS = "model", "optimiser", "tensors"
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
_NAMED = 3


@dataclass
class TrainingState:
    """Everything that a training goes on from.

    model: with its teacher, queues, centres and prototypes as parameters and buffers; may be sharded by
    `fully_shard`, compiled, wrapped by DDP or hold activation checkpoint wrappers: names in the checkpoint are those
    of the plain module. Tensors that are not sharded must be equal on all ranks.
    optimiser: made by `make_optimiser`, whose groups name their parameters. Only per-parameter state is kept: rates
    are functions of the step.
    tensors: others to keep, such as a generator's state. values: plain (JSON) values, such as a gradient scaler's
    state dict or the loader's position. Both are replaced by what a checkpoint held.
    """

    model: nn.Module
    optimiser: Optimizer
    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def collect(self) -> dict[str, Tensor]:
        """Every tensor by its name in the checkpoint, sharing memory with the training's own."""
        found = model_tensors(self.model)
        for name, parameter, _ in self._parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if not isinstance(value, Tensor):
                    raise ValueError(f"the optimiser keeps '{key}' of '{name}' as {type(value).__name__}, no tensor")
                found[f"{OPTIMISER}/{name}/{key}"] = value
        found.update({f"{TENSORS}/{name}": value for name, value in self.tensors.items()})
        return found

    def destinations(self, stored: Mapping[str, Any]) -> dict[str, Tensor]:
        """Tensors for a checkpoint's content to be read into: the model's own, and new ones for the rest.

        stored: what torch.distributed.checkpoint says of each tensor. Raises CheckpointError where names or shapes
        are not those of this training.
        """
        found = model_tensors(self.model, stored)
        parameters = {name: (parameter, group) for name, parameter, group in self._parameters()}
        for name, about in stored.items():
            kind, _, rest = name.partition("/")
            if not isinstance(about, TensorStorageMetadata):
                raise CheckpointError(f"'{name}' is no tensor: this checkpoint was written by something else")
            dtype = about.properties.dtype
            if kind == OPTIMISER:
                owner, _, key = rest.rpartition("/")
                if owner not in parameters:
                    raise CheckpointError(f"the checkpoint has state of '{owner}', which the optimiser doesn't train")
                found[name] = _empty_state(*parameters[owner], key, about.size, dtype)
            elif kind == TENSORS:
                found[name] = torch.empty(about.size, dtype=dtype)
        return found

    def fill(self, read: Mapping[str, Tensor], values: dict[str, Any]) -> None:
        """Take over what was read into `destinations`; the model's own tensors already hold it."""
        parameters = {name: parameter for name, parameter, _ in self._parameters()}
        for parameter in parameters.values():
            self.optimiser.state.pop(parameter, None)
        self.tensors = {}
        for name, value in read.items():
            kind, _, rest = name.partition("/")
            if kind == OPTIMISER:
                owner, _, key = rest.rpartition("/")
                self.optimiser.state[parameters[owner]][key] = value
            elif kind == TENSORS:
                self.tensors[rest] = value
        self.values = values

    def _parameters(self) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
        for group in self.optimiser.param_groups:
            names = group.get("param_names")
            if names is None:
                raise ValueError("this optimiser's groups do not name their parameters: use make_optimiser")
            for name, parameter in zip(names, group["params"], strict=True):
                yield plain_name(name), parameter, group


def model_tensors(model: nn.Module, stored: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """A model's parameters and buffers by their name in a checkpoint, sharing memory with the model.

    stored: what torch.distributed.checkpoint says of each tensor that it holds. Raises CheckpointError where names,
    shapes or types are not the model's.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    found = {f"{MODEL}/{plain_name(name)}": value for name, value in inner.state_dict().items()}
    if stored is not None:
        _same_names({name for name in stored if name.startswith(f"{MODEL}/")}, set(found))
        for name, value in found.items():
            there = (tuple(stored[name].size), stored[name].properties.dtype)
            if there != (tuple(value.shape), value.dtype):
                raise CheckpointError(
                    f"'{name.removeprefix(MODEL)[1:]}' is {there} in the checkpoint, "
                    f"{(tuple(value.shape), value.dtype)} in the model: it is of another model"
                )
    return found


def plain_name(name: str) -> str:
    """A parameter's name in the module as it was before it was compiled or given activation checkpoints."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _same_names(stored: set[str], wanted: set[str]) -> None:
    for names, what in ((wanted - stored, "lacks"), (stored - wanted, "has, and this model does not,")):
        if names:
            shown = ", ".join(name.removeprefix(f"{MODEL}/") for name in sorted(names)[:_NAMED])
            raise CheckpointError(
                f"the checkpoint {what} {len(names)} tensors, such as {shown}: it is of another model"
            )


def _empty_state(
    parameter: Tensor, group: Mapping[str, Any], key: str, size: torch.Size, dtype: torch.dtype
) -> Tensor:
    """A place for one tensor of a parameter's optimiser state, sharded as the parameter is where it has its shape."""
    if key != "step" and size == parameter.shape:
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    on_device = key != "step" or group.get("fused") or group.get("capturable")
    return torch.empty(size, dtype=dtype, device=parameter.device if on_device else "cpu")
