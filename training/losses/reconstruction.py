"""Regression of hidden patches."""

from __future__ import annotations

from torch import Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, 3, H, W) to (B, N, patch * patch * 3), patches row by row, values in the order row, column, channel."""
    B, C, H, W = images.shape
    cells = images.view(B, C, H // patch, patch, W // patch, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(B, -1, patch * patch * C)


def normalised_patches(patches: Tensor) -> Tensor:
    """Each patch by its own mean and unbiased variance, which sharpens what is learned (arXiv:2111.06377, 4.1)."""
    centred = patches - patches.mean(dim=-1, keepdim=True)
    var = centred.square().sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)  # torch's own var is slow on CPUs
    return centred / (var + 1e-6).sqrt()


def masked_mse(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the hidden patches. predicted, target: (B, N, P); mask: (B, N), true where hidden.

    Every sample must hide the same number of patches for ranks to weigh the same.
    """
    errors = (predicted - target).square().mean(dim=-1)
    return (errors * mask).sum() / mask.sum()


def masked_l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the hidden patches; arguments as of `masked_mse` (SimMIM, arXiv:2111.09886, eq. 2)."""
    errors = (predicted - target).abs().mean(dim=-1)
    return (errors * mask).sum() / mask.sum()
