"""Closed-form ridge probe: one eigendecomposition for all penalties, chosen by exact leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

_CHUNK = 4096

PENALTIES = tuple(10.0 ** (e / 2) for e in range(-12, 7))


@dataclass(frozen=True)
class RidgeProbe:
    """A fitted ridge probe's answer.

    scores: (Q, K) regression on the one-hot labels; predictions: (Q,) the largest. penalty: the chosen one.
    selection: leave-one-out accuracy on the training rows by penalty.
    """

    scores: NDArray[np.float64]
    predictions: IntArray
    penalty: float
    selection: dict[float, float]


@dataclass(frozen=True)
class _Spectrum:
    """Centred features X = U diag(s) V^T. left: (N, R). squares: (R,) s^2. map: (D, R) V / s."""

    left: NDArray[np.float64]
    squares: NDArray[np.float64]
    map: NDArray[np.float64]
    mean: NDArray[np.float64]


def ridge_probe(
    features: FloatArray, labels: IntArray, queries: FloatArray, *, penalties: Sequence[float] = PENALTIES
) -> RidgeProbe:
    """Minimise ||Y - X W - b||^2 + penalty * (trace of X^T X / D) * ||W||^2 with one-hot Y; b is free.

    The penalty is relative to the mean power of a column, so rescaled features give the same answer. The one of
    `penalties` whose leave-one-out predictions, e_i / (1 - h_ii) off the fit (Allen's PRESS, 1974), are right most
    often is taken, the strongest among equals.
    features: (N, D). labels: (N,) in 0..K-1. queries: (Q, D). Raises ValueError with fewer than two classes.
    """
    y = np.asarray(labels, dtype=np.int64)
    if len(np.unique(y)) < 2:
        raise ValueError("a ridge probe needs at least two classes")
    targets = np.eye(int(y.max()) + 1)[y]
    spectrum = _spectrum(np.asarray(features, dtype=np.float64))
    rotated = spectrum.left.T @ (targets - targets.mean(axis=0))
    unit = spectrum.squares.sum() / np.asarray(features).shape[1]
    grid = sorted(penalties, reverse=True)
    shrink = spectrum.squares[:, None] / (spectrum.squares[:, None] + unit * np.array(grid))
    selection = dict(zip(grid, _left_out_accuracy(spectrum.left, shrink, rotated, targets, y), strict=True))
    best = max(selection, key=lambda penalty: (selection[penalty], penalty))
    weights = spectrum.map @ (shrink[:, [grid.index(best)]] * rotated)
    scores = (np.asarray(queries, dtype=np.float64) - spectrum.mean) @ weights + targets.mean(axis=0)
    return RidgeProbe(scores, scores.argmax(axis=1), best, selection)


def _spectrum(x: NDArray[np.float64]) -> _Spectrum:
    """From the smaller Gram matrix; directions below 1e-12 of the largest power are left out."""
    mean = x.mean(axis=0)
    centred = x - mean
    wide = x.shape[1] > len(x)
    squares, axes = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    keep = squares > 1e-12 * max(float(squares[-1]), 1e-300)
    squares, axes = squares[keep], axes[:, keep]
    if wide:
        return _Spectrum(axes, squares, centred.T @ (axes / squares), mean)
    return _Spectrum(centred @ (axes / np.sqrt(squares)), squares, axes / np.sqrt(squares), mean)


def _left_out_accuracy(
    left: NDArray[np.float64],
    shrink: NDArray[np.float64],
    rotated: NDArray[np.float64],
    targets: NDArray[np.float64],
    labels: IntArray,
) -> list[float]:
    """For each column of `shrink` (R, P), the share of rows whose score, had they not been fitted, is largest for
    their own class.

    The hat matrix of the fit with its free intercept is 1 / N + U diag(shrink) U^T.
    """
    rows, classes = targets.shape
    penalties = shrink.shape[1]
    right = np.zeros(penalties, dtype=np.int64)
    weights = (shrink[:, :, None] * rotated[:, None]).reshape(len(shrink), penalties * classes)
    for start in range(0, rows, _CHUNK):
        part, wanted = left[start : start + _CHUNK], targets[start : start + _CHUNK, None]
        fitted = (part @ weights).reshape(-1, penalties, classes) + targets.mean(axis=0)
        room = np.maximum(1 - 1 / rows - (part * part) @ shrink, 1e-9)
        scores = wanted - (wanted - fitted) / room[:, :, None]
        right += (scores.argmax(axis=2) == labels[start : start + _CHUNK, None]).sum(axis=0)
    return (right / rows).tolist()
