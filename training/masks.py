"""Which patches an image shows and which it hides, as a function of the sample."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.counter_random import uniforms

_MASK_STREAM = 0x3A5C


def random_keep(
    rows: NDArray[np.int64], patches: int, mask_ratio: float, *, seed: int, epoch: int, view: int = 0
) -> Tensor:
    """(B, K) sorted indices of the patches that stay visible; the same number for every sample, at least one.

    K = floor(patches * (1 - mask_ratio)), as in MAE (arXiv:2111.06377).
    """
    noise = uniforms(patches, _MASK_STREAM, seed, epoch, view, rows.astype(np.uint64))
    kept = max(1, int(patches * (1 - mask_ratio) + 1e-9))
    return torch.from_numpy(np.sort(np.argsort(noise, axis=1, kind="stable")[:, :kept], axis=1))


def hidden(keep: Tensor, patches: int) -> Tensor:
    """(B, N) true where a patch is not in `keep`."""
    mask = torch.ones(len(keep), patches, dtype=torch.bool, device=keep.device)
    return mask.scatter_(1, keep, False)
