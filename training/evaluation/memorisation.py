"""Memorisation of single images: how much closer their views lie for an encoder that was trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import mean_interval
from training.evaluation.intervals import Interval
from training.evaluation.sphere import unit_rows

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Memorisation:
    """scores: (N,) in -1..1, one an image, above 0 where it is memorised. mean, interval: of the scores."""

    scores: NDArray[np.float64]
    mean: float
    interval: Interval


def alignment_losses(views: FloatArray) -> NDArray[np.float64]:
    """(N,) mean distance between two different views of (N, V, D) normalised features (arXiv:2401.12233)."""
    x = unit_rows(views)
    if x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(f"alignment needs (images, views, D) features with two views, got {x.shape}")
    gaps = np.linalg.norm(x[:, :, None] - x[:, None], axis=3)
    return gaps.sum(axis=(1, 2)) / (x.shape[1] * (x.shape[1] - 1))


def memorisation(
    trained_on: FloatArray, reference: FloatArray, *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> Memorisation:
    """SSLMem (Wang et al., 2024, arXiv:2401.12233): alignment loss of an encoder g without the images minus that of f.

    trained_on: (N, V, D) features of V views of each image by the encoder f whose training set has the images;
    reference: (N, V, D') by g, trained alike without them. Scores are divided by the largest magnitude, as in the
    paper. A mean whose interval holds 0 says that these images were not memorised.
    """
    if len(trained_on) != len(reference) or len(trained_on) == 0:
        raise ValueError("give the views of the same images to both encoders, and at least one image")
    gaps = alignment_losses(reference) - alignment_losses(trained_on)
    scores = gaps / max(float(np.abs(gaps).max()), 1e-12)
    interval = mean_interval(scores, seed=seed, resamples=resamples, confidence=confidence)
    return Memorisation(scores, float(scores.mean()), interval)


def excess(scores: FloatArray, control: FloatArray, confidence: float = 0.95) -> tuple[float, Interval]:
    """How far the mean of `scores` lies above that of `control`, images which neither encoder was trained on, and its
    normal interval with variances of their own (Welch, 1947).

    One encoder may hold all views closer together than the other, trained on or not: that is in both means.
    """
    gap = float(np.mean(scores) - np.mean(control))
    error = sum(float(np.var(x, ddof=1)) / len(x) if len(x) > 1 else np.inf for x in (scores, control)) ** 0.5
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return gap, (gap - half, gap + half)
