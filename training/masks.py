"""Which patches an image shows and which it hides, as a function of the sample."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.counter_random import uniforms

_MASK_STREAM = 0x3A5C
_COUNT_STREAM = 0xC047
_UNIT_STREAM = 0x5117


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
    """(B, N) true where a patch is not in `keep` (B, K)."""
    mask = torch.ones(len(keep), patches, dtype=torch.bool, device=keep.device)
    return mask.scatter_(1, keep, False)


def hidden_indices(keep: Tensor, patches: int) -> Tensor:
    """(B, N - K) sorted indices of the patches that are not in `keep` (B, K)."""
    return hidden(keep, patches).nonzero()[:, 1].view(len(keep), -1)


def random_units(
    rows: NDArray[np.int64], grid: tuple[int, int], ratio: float, unit: int, *, seed: int, epoch: int, view: int = 0
) -> Tensor:
    """(B, N) true where hidden: squares of unit x unit patches, the same number for every sample.

    ceil(units * ratio) of the units that tile the grid (SimMIM, arXiv:2111.09886, section 3.2). Raises ValueError
    where units do not tile it.
    """
    down, across = grid
    if down % unit or across % unit:
        raise ValueError(f"masked squares of {unit} x {unit} patches do not tile a grid of {down} x {across} patches")
    coarse = (down // unit) * (across // unit)
    noise = uniforms(coarse, _UNIT_STREAM, seed, epoch, view, rows.astype(np.uint64))
    count = min(coarse, int(np.ceil(coarse * ratio - 1e-9)))
    mask = np.zeros((len(rows), coarse), bool)
    np.put_along_axis(mask, np.argsort(noise, axis=1, kind="stable")[:, :count], True, axis=1)
    squares = mask.reshape(-1, down // unit, across // unit).repeat(unit, axis=1).repeat(unit, axis=2)
    return torch.from_numpy(squares.reshape(len(rows), -1))


def mask_counts(
    rows: NDArray[np.int64],
    patches: int,
    ratio: tuple[float, float],
    probability: float,
    *,
    seed: int,
    epoch: int,
    view: int = 0,
) -> NDArray[np.int64]:
    """(B,) how many patches to hide: none, or with `probability` a share uniform in `ratio` (iBOT, arXiv:2111.07832).

    A function of the sample, unlike shares that are spread over a batch, which depend on who else is in it.
    """
    u = uniforms(2, _COUNT_STREAM, seed, epoch, view, rows.astype(np.uint64))
    share = ratio[0] + u[:, 1] * (ratio[1] - ratio[0])
    return np.where(u[:, 0] < probability, np.rint(share * patches), 0).astype(np.int64)
