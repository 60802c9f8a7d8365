"""Linear probe: multinomial logistic regression on frozen features, its regularisation chosen on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from training.evaluation.subsets import held_out_rows

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

_PATIENCE = 3


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
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class _Rotated:
    """Features in the basis of their principal axes. rows: (N, R). power: (R,) mean square of each column."""

    rows: torch.Tensor
    power: torch.Tensor


def linear_probe(
    features: FloatArray,
    labels: IntArray,
    queries: FloatArray,
    *,
    regularisations: Sequence[float],
    selection_share: float = 0.2,
    past_majority: bool = True,
    seed: int = 0,
) -> LinearProbe:
    """Fit on (N, D) features and predict the queries, which have no part in any choice.

    Columns are standardised by the training rows. Each C of `regularisations` is fitted without a stratified
    `selection_share` of the rows and measured on it, from the strongest regularisation on, until three in a row were
    no better (past_majority: and one has beaten the answer that is always the largest class, which is all that strong
    regularisation finds where the classes are uneven); the most accurate (the strongest among equals) is fitted again
    on all rows.
    Raises ValueError with fewer than two classes.
    """
    target = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    classes = int(target.max()) + 1 if len(target) else 0
    if len(torch.unique(target)) < 2:
        raise ValueError("a linear probe needs at least two classes")
    train, test = standardise(features, queries)
    rotated, rotated_queries = _rotate(train, test)
    grid = sorted(regularisations)
    held = torch.as_tensor(held_out_rows(target.numpy(), selection_share, seed))
    choose = len(grid) > 1 and 0 < int(held.sum()) < len(held)
    selection = _select(rotated, target, held, classes, grid, past_majority) if choose else {}
    best = max(selection, key=lambda c: (selection[c], -c)) if selection else grid[len(grid) // 2]
    weights = fit_logistic(rotated.rows, target, classes, best, power=rotated.power)
    logits = rotated_queries @ weights[:-1] + weights[-1]
    return LinearProbe(logits.argmax(dim=1).numpy(), best, selection, logits.softmax(dim=1).numpy())


def _select(
    rotated: _Rotated,
    target: torch.Tensor,
    held: torch.Tensor,
    classes: int,
    grid: Sequence[float],
    past_majority: bool,
) -> dict[float, float]:
    """Held-out accuracy by C; each fit starts from the one before, and is as exact as a choice between them needs."""
    rows, seen = rotated.rows[~held], target[~held]
    floor = float((target[held] == seen.mode().values).to(torch.float64).mean()) if past_majority else -1.0
    selection: dict[float, float] = {}
    weights = None
    for c in grid:
        weights = fit_logistic(rows, seen, classes, c, power=rotated.power, start=weights, tolerance=1e-4)
        right = _classes_of(rotated.rows[held], weights) == target[held]
        selection[c] = float(right.to(torch.float64).mean())
        scores = list(selection.values())
        before = max(scores[:-_PATIENCE], default=0.0)
        if before > floor and max(scores[-_PATIENCE:]) <= before:
            break
    return selection


def standardise(features: FloatArray, queries: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets with the columns of `features` at mean 0 and variance 1; a constant column becomes 0."""
    x, q = np.asarray(features, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    # Rounding leaves a constant column a deviation of about 1e-16 of its mean, which must not be blown up.
    scale = np.where(std > 1e-7 * np.maximum(1e-30, np.abs(mean)), 1 / np.where(std > 0, std, 1), 0.0)
    return (x - mean) * scale, (q - mean) * scale


def fit_logistic(
    rows: torch.Tensor,
    target: torch.Tensor,
    classes: int,
    c: float,
    *,
    power: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
    tolerance: float = 1e-6,
) -> torch.Tensor:
    """Minimise C * sum of cross-entropies + ||W||^2 / 2 by L-BFGS; the intercept is free.

    rows: (N, R) float64. target: (N,) classes, or (N, K) float64 weights of the classes (soft or counted labels).
    power: (R,) mean square of each column, for the scaling of the unknowns.
    Returns (R + 1, K) weights, the intercept last.

    The unknowns are scaled by the curvature that each has at the start (its column's power over K, plus the
    regularisation): on principal axes this makes the problem nearly round, and tens of iterations are enough.
    """
    power = rows.square().mean(dim=0) if power is None else power
    penalty = 1.0 / (c * len(rows))
    scale = torch.cat([(power / classes + penalty).rsqrt(), torch.full((1,), float(classes) ** 0.5).to(rows)])
    unknowns = torch.zeros(len(scale), classes, dtype=rows.dtype) if start is None else start / scale[:, None]
    unknowns = unknowns.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [unknowns], max_iter=300, history_size=20, tolerance_grad=tolerance, tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        weights = unknowns * scale[:, None]
        loss = cross_entropy(rows @ weights[:-1] + weights[-1], target)
        loss = loss + 0.5 * penalty * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return (unknowns * scale[:, None]).detach()


def _rotate(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[_Rotated, torch.Tensor]:
    """Both sets on the principal axes of `train`; axes without variance, which no solution uses, are left out."""
    x, q = torch.as_tensor(train), torch.as_tensor(test)
    wide = x.shape[1] > len(x)
    power, axes = torch.linalg.eigh((x @ x.T if wide else x.T @ x) / len(x))
    keep = power > 1e-10 * power[-1].clamp(min=1e-30)
    power, axes = power[keep], axes[:, keep]
    basis = x.T @ (axes / (power * len(x)).sqrt()) if wide else axes
    return _Rotated(x @ basis, power), q @ basis


def _classes_of(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (rows @ weights[:-1] + weights[-1]).argmax(dim=1)
