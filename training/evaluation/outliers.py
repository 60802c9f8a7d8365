"""Detection of images from elsewhere by their distance to the training features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import percentile_interval
from training.evaluation.intervals import Interval
from training.evaluation.knn import nearest

FloatArray = NDArray[np.floating]


def knn_outlier_scores(bank: FloatArray, queries: FloatArray, k: int = 10) -> NDArray[np.float64]:
    """(Q,) 1 - cosine similarity to the k-th nearest bank row; high for what is unlike the training images.

    (Sun et al., 2022, arXiv:2204.06507.) No label and no fit. k is cut to the size of the bank.
    """
    return 1 - nearest(bank, queries, k)[1][:, -1].astype(np.float64)


def auroc(inside: FloatArray, outside: FloatArray) -> float:
    """Probability that an outsider scores higher than an insider, ties counting half (Mann and Whitney, 1947)."""
    if len(inside) == 0 or len(outside) == 0:
        raise ValueError("the area under the ROC curve needs scores of both kinds")
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :]
    return float((ranks.sum() - len(outside) * (len(outside) + 1) / 2) / (len(inside) * len(outside)))


def auroc_interval(
    inside: FloatArray, outside: FloatArray, *, seed: int, resamples: int = 500, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of `auroc`, both kinds resampled apart."""
    generator = np.random.default_rng(seed)
    values = [
        auroc(
            inside[generator.integers(0, len(inside), len(inside))],
            outside[generator.integers(0, len(outside), len(outside))],
        )
        for _ in range(resamples)
    ]
    return percentile_interval(np.array(values), confidence)
