"""Everything that differs between a GPU and a CPU: which is used, number formats, copies, memory.

With a GPU a training takes one for each rank, bfloat16 and TensorFloat-32; otherwise the CPU in float32.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def training_device(use_gpu: bool, threads: int) -> torch.device:
    """This rank's device: its own GPU where there is one and it is wanted. threads: CPU threads, 0 for as it is."""
    if threads:
        torch.set_num_threads(threads)
    if use_gpu and torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TensorFloat-32 products
        torch.backends.cudnn.allow_tf32 = True
        return device
    return torch.device("cpu")


def number_format(precision: str, device: torch.device) -> str:
    """ "fp32", "bf16" or "fp16"; what "auto" means depends on the device."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def described(device: torch.device, precision: str) -> str:
    """What a rank trains on, for people."""
    kind = number_format(precision, device)
    if device.type == "cuda":
        exact = "TF32 products" if kind == "fp32" else f"{kind} autocast, TF32 elsewhere"
        return f"{torch.cuda.get_device_name(device)}, {exact}"
    return f"CPU, {torch.get_num_threads()} threads, {kind}"


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory held so far: of the GPU where the training is on one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@dataclass(frozen=True)
class Copied:
    """A value whose tensors are on their way to a GPU, and the event after which they are there."""

    value: object
    arrived: torch.cuda.Event | None


class Copier:
    """Copies batches to a GPU on a stream of its own, from pinned memory; on a CPU it does nothing.

    `send` may be called by another thread than `receive`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, value: object) -> Copied:
        """Start to copy the tensors among a dataclass's fields (also within tuples)."""
        if self._stream is None:
            return Copied(value, None)
        with torch.cuda.stream(self._stream):
            moved = _mapped(value, lambda tensor: tensor.pin_memory().to(self.device, non_blocking=True))
            arrived = torch.cuda.Event()
            arrived.record(self._stream)
        return Copied(moved, arrived)

    def receive(self, copied: Copied) -> object:
        """The value, for use on the current stream; waits on the GPU, not on the host."""
        if copied.arrived is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(copied.arrived)
            _mapped(copied.value, lambda tensor: _recorded(tensor, current))
        return copied.value


def _recorded(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    tensor.record_stream(stream)
    return tensor


def _mapped(value: T, change: Callable[[Tensor], Tensor]) -> T:
    changed: dict[str, Any] = {}
    for field in fields(value):  # type: ignore[arg-type]
        held = getattr(value, field.name)
        if isinstance(held, Tensor):
            changed[field.name] = change(held)
        elif isinstance(held, tuple) and held and isinstance(held[0], Tensor):
            changed[field.name] = tuple(change(tensor) for tensor in held)
    return replace(value, **changed)  # type: ignore[type-var]
