"""Do the loss and the label-free measures rank checkpoints as the probes do?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from training.evaluation.bootstrap import percentile_interval
from training.evaluation.intervals import Interval

_AT_ONCE, _BLOCK = 250, 512


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho and Kendall's tau-b of two measures over checkpoints, with intervals; checkpoints: how many.

    NaN where a measure is constant. p_value: of Kendall's tau, two-sided, exact for few checkpoints without ties.
    """

    spearman: float
    spearman_interval: Interval
    kendall: float
    kendall_interval: Interval
    p_value: float
    checkpoints: int


def rank_correlation(
    measure: Sequence[float],
    quality: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> RankCorrelation:
    """How well `measure` (a loss, RankMe) orders checkpoints by `quality` (a probe's accuracy), as in AIM
    (arXiv:2401.08541) and RankMe (arXiv:2210.02885).

    Pairs with a value that is not finite are left out. A loss that tracks quality has a negative correlation.
    Intervals are percentiles over resampled checkpoints; those of one training are not independent of each other.
    Raises ValueError with fewer than three checkpoints.
    """
    x, y = np.asarray(measure, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 3:
        raise ValueError(f"a rank correlation needs at least three checkpoints, got {len(x)}")
    generator = np.random.default_rng(seed)
    spearmen, kendalls = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, _AT_ONCE):
        drawn = generator.integers(0, len(x), (min(_AT_ONCE, resamples - start), len(x)))
        place = slice(start, start + len(drawn))
        spearmen[place], kendalls[place] = _spearman(x[drawn], y[drawn]), _kendall(x, y, drawn)
    whole = np.arange(len(x))[None]
    spearman, kendall = _spearman(x[None], y[None])[0], _kendall(x, y, whole)[0]
    return RankCorrelation(
        float(spearman),
        percentile_interval(spearmen, confidence),
        float(kendall),
        percentile_interval(kendalls, confidence),
        float(kendalltau(x, y).pvalue),
        len(x),
    )


def ranking_table(
    checkpoints: Sequence[Mapping[str, float]], measures: Sequence[str], qualities: Sequence[str], *, seed: int = 0
) -> list[dict[str, float | str]]:
    """One row for each measure and quality: names, spearman and kendall with "_lo" and "_hi", p_value, checkpoints.

    checkpoints: metrics of each by name; a pair of names with fewer than three common values gets no row.
    """
    rows: list[dict[str, float | str]] = []
    for measure in measures:
        for quality in qualities:
            both = [(c[measure], c[quality]) for c in checkpoints if measure in c and quality in c]
            if len(both) < 3:
                continue
            found = rank_correlation([m for m, _ in both], [q for _, q in both], seed=seed)
            row: dict[str, float | str] = {"measure": measure, "quality": quality}
            for name in ("spearman", "kendall"):
                low, high = getattr(found, f"{name}_interval")
                row |= {name: getattr(found, name), f"{name}_lo": low, f"{name}_hi": high}
            rows.append(row | {"p_value": found.p_value, "checkpoints": found.checkpoints})
    return rows


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) correlation of the ranks in each row of (R, n); NaN where one is constant."""
    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return _ratio((a * b).sum(axis=1), (a * a).sum(axis=1) * (b * b).sum(axis=1))


def _kendall(x: NDArray[np.float64], y: NDArray[np.float64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """(R,) tau-b of each resample, (R, n) row numbers; NaN where a measure is constant.

    A resample is how often each row was drawn, and tau-b a ratio of sums over pairs of rows times both counts: three
    products of matrices for all resamples together, a block of columns at a time.
    """
    counts = np.stack([np.bincount(rows, minlength=len(x)) for rows in drawn]).astype(np.float64)
    shared, left, right = (np.zeros(len(drawn)) for _ in range(3))
    for start in range(0, len(x), _BLOCK):
        part = slice(start, start + _BLOCK)
        a, b = (np.sign(values[:, None] - values[None, part]) for values in (x, y))
        for total, signs in ((shared, a * b), (left, a * a), (right, b * b)):
            total += ((counts @ signs) * counts[:, part]).sum(axis=1)
    return _ratio(shared, left * right)


def _ratio(shared: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(shared, np.sqrt(squares), out=np.full(len(shared), np.nan), where=squares > 0)
