"""Memory for batches of canvases: fresh pages cost about as much as copying the pictures, so it is used again."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class CanvasMemory:
    """Hands out memory for batches, and takes it back when nothing refers to the batch any more.

    pinned: page-locked memory, which a GPU copies from on its own; torch keeps it until such copies have ended.
    """

    def __init__(self, shape: tuple[int, ...], pinned: bool = False) -> None:
        self.shape, self.pinned = shape, pinned
        self._free: deque[NDArray[np.uint8]] = deque()

    def take(self) -> Tensor:
        """A uint8 tensor of the shape, with arbitrary content."""
        if self.pinned:
            return torch.empty(self.shape, dtype=torch.uint8, pin_memory=True)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.shape, np.uint8)
        lent = memory.view()
        # the tensor and all its views hold `lent`, and `lent` is what the finaliser waits for
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)
