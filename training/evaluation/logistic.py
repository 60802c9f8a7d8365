"""Multinomial logistic regression, solved by L-BFGS with its gradient written out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

_MEMORY = 10
_MAX_ITERATIONS = 300


def fit_logistic(
    rows: FloatArray,
    target: NDArray[np.integer] | NDArray[np.floating],
    classes: int,
    c: float,
    *,
    power: NDArray[np.float64] | None = None,
    start: NDArray[np.float64] | None = None,
    tolerance: float = 1e-6,
) -> NDArray[np.float64]:
    """Minimise C * sum of cross-entropies + ||W||^2 / 2; the intercept is free.

    rows: (N, R); their products are computed in their own precision. target: (N,) classes, or (N, K) weights of the
    classes (soft or counted labels). power: (R,) mean square of each column, for the scaling of the unknowns. start:
    weights to begin from. tolerance: of the largest component of the gradient. Returns (R + 1, K) weights, the
    intercept last.

    The unknowns are scaled by the curvature that each has at the start (its column's power over K, plus the
    regularisation): on principal axes this makes the problem nearly round, and tens of iterations are enough.
    """
    from scipy.optimize import minimize

    power = np.square(rows, dtype=np.float64).mean(axis=0) if power is None else power
    penalty = 1.0 / (c * len(rows))
    scale = np.append(1 / np.sqrt(power / classes + penalty), float(classes) ** 0.5)[:, None]
    shares = _shares(target, classes)
    mass = shares.sum(axis=1, keepdims=True)
    back = np.ascontiguousarray(rows.T)

    def objective(unknowns: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = unknowns.reshape(-1, classes) * scale
        logits = (rows @ weights[:-1].astype(rows.dtype)).astype(np.float64) + weights[-1]
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1, keepdims=True)
        loss = float((mass * np.log(total)).sum() - (shares * logits).sum()) / len(rows)
        error = (mass * odds / total - shares) / len(rows)
        slope = np.empty_like(weights)
        slope[:-1] = back @ error.astype(rows.dtype) + penalty * weights[:-1]
        slope[-1] = error.sum(axis=0)
        return loss + 0.5 * penalty * float(np.square(weights[:-1]).sum()), (slope * scale).ravel()

    first = np.zeros((len(scale), classes)) if start is None else start / scale
    options = {"maxcor": _MEMORY, "maxiter": _MAX_ITERATIONS, "maxfun": 2 * _MAX_ITERATIONS, "gtol": tolerance}
    options["ftol"] = float(np.finfo(rows.dtype).eps) / 10
    found = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(-1, classes) * scale


def _shares(target: NDArray[np.integer] | NDArray[np.floating], classes: int) -> NDArray[np.float64]:
    if target.ndim == 2:
        return np.asarray(target, dtype=np.float64)
    shares = np.zeros((len(target), classes))
    shares[np.arange(len(target)), target] = 1.0
    return shares


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) probabilities of (N, K) logits."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
