"""Segmentation from frozen patch tokens: a linear layer or the nearest labelled patches."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from training.evaluation.knn import knn_probabilities
from training.evaluation.linear_probe import standardise
from training.evaluation.logistic import fit_logistic

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


def patch_labels(masks: NDArray[np.integer], grid: tuple[int, int], classes: int) -> NDArray[np.float64]:
    """(N, rows, columns, K) shares of each patch's pixels that have each class; ignored pixels are missing from it.

    masks: (N, H, W) classes in 0..K-1; every other value is ignored. Raises ValueError where no grid tiles them.
    """
    n, height, width = masks.shape
    rows, columns = grid
    if height % rows or width % columns:
        raise ValueError(f"a grid of {rows} x {columns} patches does not tile masks of {height} x {width} px")
    cells = masks.reshape(n, rows, height // rows, columns, width // columns).transpose(0, 1, 3, 2, 4)
    cells = cells.reshape(n, rows, columns, -1)
    return np.stack([(cells == c).mean(axis=3) for c in range(classes)], axis=3)


def linear_segmentation(
    patches: FloatArray,
    masks: NDArray[np.integer],
    queries: FloatArray,
    size: tuple[int, int],
    classes: int,
    *,
    c: float = 0.01,
    max_bank: int = 50_000,
    seed: int = 0,
) -> IntArray:
    """(Q, H, W) classes by one linear layer on patch tokens, its logits upsampled bilinearly to `size`.

    The layer minimises C * sum over labelled patches of the pixels' mean cross-entropy + ||W||^2 / 2, exactly, by
    L-BFGS; before upsampling all pixels of a patch share its logits, so their class shares are all that matters
    (the linear protocol of DINOv2, arXiv:2304.07193 with a solver in place of SGD).
    patches: (N, rows, columns, D). masks: (N, H, W). queries: (Q, rows', columns', D). More labelled patches than
    `max_bank` are cut to a seeded choice.
    """
    shares = patch_labels(masks, patches.shape[1:3], classes).reshape(-1, classes)
    labelled = _chosen(shares, max_bank, seed)
    if (shares.sum(axis=0) > 0).sum() < 2:
        raise ValueError("linear segmentation needs pixels of at least two classes")
    rows, asked = standardise(patches.reshape(-1, patches.shape[3])[labelled], queries.reshape(-1, queries.shape[3]))
    weights = fit_logistic(rows, shares[labelled], classes, c, tolerance=1e-5)
    logits = (asked @ weights[:-1] + weights[-1]).reshape(*queries.shape[:3], classes)
    return upsampled_classes(logits, size)


def knn_segmentation(
    patches: FloatArray,
    masks: NDArray[np.integer],
    queries: FloatArray,
    size: tuple[int, int],
    classes: int,
    *,
    k: int = 30,
    temperature: float = 0.07,
    max_bank: int = 50_000,
    seed: int = 0,
) -> IntArray:
    """(Q, H, W) classes by weighted kNN among labelled patches, the votes upsampled bilinearly to `size`.

    No training at all (as patch retrieval in Balazevic et al., 2023, arXiv:2306.01667). A patch is labelled by its
    commonest class; a larger bank than `max_bank` is cut to a seeded choice.
    """
    shares = patch_labels(masks, patches.shape[1:3], classes).reshape(-1, classes)
    rows = _chosen(shares, max_bank, seed)
    bank, labels = patches.reshape(-1, patches.shape[3])[rows], shares[rows].argmax(axis=1)
    found = knn_probabilities(bank, labels, queries.reshape(-1, queries.shape[3]), k, temperature=temperature)
    votes = np.zeros((len(found), classes))
    votes[:, : found.shape[1]] = found
    return upsampled_classes(votes.reshape(*queries.shape[:3], classes), size)


def _chosen(shares: NDArray[np.float64], most: int, seed: int) -> IntArray:
    """Rows of labelled patches, `most` at most."""
    rows = np.flatnonzero(shares.sum(axis=1) > 0)
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def upsampled_classes(scores: NDArray[np.float64], size: tuple[int, int]) -> IntArray:
    """(Q, H, W) largest class of (Q, rows, columns, K) scores after bilinear upsampling, image by image."""
    found = np.empty((len(scores), *size), dtype=np.int64)
    for image, values in enumerate(scores):
        planes = torch.as_tensor(values).permute(2, 0, 1)[None]
        whole = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)[0]
        found[image] = whole.numpy().argmax(axis=0)
    return found
