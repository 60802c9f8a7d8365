"""Linear probe: multinomial logistic regression on frozen features, its regularisation chosen on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.logistic import fit_logistic, softmax
from training.evaluation.subsets import held_out_rows

FloatArray = NDArray[np.floating]
Matrix = NDArray[np.float64]
IntArray = NDArray[np.int64]

_PATIENCE = 3
_LOOSE, _TIGHT = 1e-4, 1e-5
"""Largest component of the gradient that a choice of C may rest on, and a figure."""


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe's answer.

    predictions: (Q,) class of each query. regularisation: the chosen C.
    selection: held-out accuracy of every C that was tried, strongest regularisation first.
    probabilities: (Q, K) of each class.
    """

    predictions: IntArray
    regularisation: float
    selection: dict[float, float]
    probabilities: Matrix


@dataclass(frozen=True)
class FittedProbe(LinearProbe):
    """weights: (D + 1, K) for features as they come, the intercept last.

    held: (N,) whether C was chosen on each training row, nowhere where nothing was chosen; held_probabilities: (H, K)
    of those that it was, fitted without them.
    """

    weights: Matrix
    held: NDArray[np.bool_]
    held_probabilities: Matrix

    def classes_of(self, features: FloatArray) -> IntArray:
        """(M,) classes of (M, D) further features."""
        return _logits(np.asarray(features, dtype=np.float64), self.weights).argmax(axis=1)


@dataclass(frozen=True)
class _Axes:
    """The principal axes of standardised rows, without those that have no variance, which no solution uses.

    rows: (N, R) on them. power: (R,) mean square of each column. basis: (D, R).
    """

    rows: Matrix
    power: Matrix
    basis: Matrix


def linear_probe(
    features: FloatArray,
    labels: IntArray,
    queries: FloatArray,
    *,
    regularisations: Sequence[float],
    selection_share: float = 0.2,
    seed: int = 0,
) -> FittedProbe:
    """Fit on (N, D) features and predict the queries, which have no part in any choice.

    Columns are standardised by the training rows. Each C of `regularisations` is fitted without a stratified
    `selection_share` of the rows and measured on it, from the strongest regularisation on, until three in a row were
    no more accurate and each of the three had a larger cross-entropy there: accuracy alone may rest on a plateau long
    before it rises. The most accurate (the strongest among equals) is fitted again on all rows.
    Raises ValueError with fewer than two classes.
    """
    target = np.asarray(labels, dtype=np.int64)
    if len(np.unique(target)) < 2:
        raise ValueError("a linear probe needs at least two classes")
    classes = int(target.max()) + 1
    mean, scale = standardisation(features)
    axes = _principal((np.asarray(features, dtype=np.float64) - mean) * scale)
    grid = sorted(regularisations)
    held = held_out_rows(target, selection_share, seed)
    selection, best, start = dict[float, float](), grid[len(grid) // 2], None
    aside = np.zeros((0, classes))
    if len(grid) > 1 and 0 < held.sum() < len(held):
        selection, best, start, aside = _select(axes, target, held, classes, grid)
    else:
        held = np.zeros(len(target), dtype=bool)
    found = fit_logistic(axes.rows, target, classes, best, power=axes.power, start=start, tolerance=_TIGHT)
    turned = scale[:, None] * (axes.basis @ found[:-1])
    weights = np.vstack([turned, found[-1] - mean @ turned])
    logits = _logits(np.asarray(queries, dtype=np.float64), weights)
    return FittedProbe(logits.argmax(axis=1), best, selection, softmax(logits), weights, held, aside)


def _select(
    axes: _Axes, target: IntArray, held: NDArray[np.bool_], classes: int, grid: Sequence[float]
) -> tuple[dict[float, float], float, Matrix, Matrix]:
    """Held-out accuracy by C; the best C with its weights, and what they say of the held-out rows.

    Each fit starts from the one before, and is as exact as a choice between them needs.
    """
    rows, rest, truth = axes.rows[~held].astype(np.float32), axes.rows[held], target[held]
    selection: dict[float, float] = {}
    losses: list[float] = []
    found: dict[float, tuple[Matrix, Matrix]] = {}
    weights = None
    for c in grid:
        weights = fit_logistic(rows, target[~held], classes, c, power=axes.power, start=weights, tolerance=_LOOSE)
        probabilities = softmax(_logits(rest, weights))
        selection[c] = float((probabilities.argmax(axis=1) == truth).mean())
        losses.append(-float(np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-300)).mean()))
        if selection[c] > max((selection[other] for other in found), default=-1.0):
            found = {c: (weights, probabilities)}
        if _settled(list(selection.values()), losses):
            break
    ((best, (weights, probabilities)),) = found.items()
    return selection, best, weights, probabilities


def _settled(scores: Sequence[float], losses: Sequence[float]) -> bool:
    """Whether weaker regularisation has begun to overfit for good."""
    rising = all(after > before for before, after in zip(losses[-_PATIENCE - 1 :], losses[-_PATIENCE:], strict=False))
    return len(scores) > _PATIENCE and rising and max(scores[-_PATIENCE:]) <= max(scores[:-_PATIENCE])


def standardise(features: FloatArray, queries: FloatArray) -> tuple[Matrix, Matrix]:
    """Both sets with the columns of `features` at mean 0 and variance 1; a constant column becomes 0."""
    x, q = np.asarray(features, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    mean, scale = standardisation(x)
    return (x - mean) * scale, (q - mean) * scale


def standardisation(features: FloatArray) -> tuple[Matrix, Matrix]:
    """(D,) means of the columns, and what they are to be multiplied by without them; 0 for a constant column."""
    x = np.asarray(features, dtype=np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    # Rounding leaves a constant column a deviation of about 1e-16 of its mean, which must not be blown up.
    return mean, np.where(std > 1e-7 * np.maximum(1e-30, np.abs(mean)), 1 / np.where(std > 0, std, 1), 0.0)


def _principal(x: Matrix) -> _Axes:
    wide = x.shape[1] > len(x)
    power, axes = np.linalg.eigh((x @ x.T if wide else x.T @ x) / len(x))
    keep = power > 1e-10 * max(power[-1], 1e-30)
    power, axes = power[keep], axes[:, keep]
    if not wide:
        return _Axes(x @ axes, power, axes)
    spread = np.sqrt(power * len(x))
    return _Axes(axes * spread, power, x.T @ (axes / spread))


def _logits(rows: Matrix, weights: Matrix) -> Matrix:
    return rows @ weights[:-1] + weights[-1]
