"""Confidence intervals: of accuracies over queries (closed form, or seeded bootstrap), of figures over repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


def wilson_interval(right: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson, 1927): `right` of `total`; (0, 1) without rows."""
    if total == 0:
        return (0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def balanced_interval(
    correct: NDArray[np.bool_],
    truth: NDArray[np.int64],
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of the balanced accuracy, rows resampled within each class.

    A class's resampled count of right rows is binomial, so it is drawn as such.
    correct: (N,) whether each row is right. truth: (N,) classes.
    """
    generator = np.random.default_rng(seed)
    values = np.unique(truth)
    shares = np.zeros(resamples)
    for value in values:
        rows = correct[truth == value]
        shares += generator.binomial(len(rows), rows.mean(), resamples) / len(rows)
    return _percentiles(shares / max(1, len(values)), confidence)


def difference_interval(
    correct: NDArray[np.bool_],
    other: NDArray[np.bool_],
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Paired percentile bootstrap interval of accuracy(correct) - accuracy(other) on the same rows.

    Only the counts of rows that one gets right and the other does not matter, so those are drawn (multinomial).
    """
    n = len(correct)
    wins, losses = int((correct & ~other).sum()), int((~correct & other).sum())
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, [wins / n, losses / n, max(0.0, 1 - (wins + losses) / n)], size=resamples)
    return _percentiles((counts[:, 0] - counts[:, 1]) / n, confidence)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """Mean of repetitions and Student's t interval of it (Student, 1908); one repetition gives no interval.

    It says where the mean of further repetitions would lie, if these are independent and normal; it says nothing of
    other queries or other pools.
    """
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def paired_difference(
    values: Sequence[float], others: Sequence[float], confidence: float = 0.95
) -> tuple[float, float | None, float | None]:
    """`t_interval` of values - others, which belong together one by one (the same seed).

    Raises ValueError where they do not.
    """
    return t_interval([value - other for value, other in zip(values, others, strict=True)], confidence)


def _percentiles(values: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return (float(low), float(high))
