"""Positions of patches on a grid as fixed vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sine_cosine_positions(grid: tuple[int, int], dim: int) -> Tensor:
    """(rows * columns, dim) fixed positions: a quarter of the width each for sine and cosine of row and column."""
    frequencies = 10000.0 ** -(np.arange(dim // 4) / (dim // 4))
    rows, columns = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (rows, columns)]
    return torch.from_numpy(np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1))
