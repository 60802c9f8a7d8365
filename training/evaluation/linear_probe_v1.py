"""The linear probe as protocol curatrain-v1 has it, to the bit: with its own solver, and its own end of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from training.evaluation.linear_probe import LinearProbe, standardise
from training.evaluation.subsets import held_out_rows

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

_PATIENCE = 3


@dataclass(frozen=True)
class _Rotated:
    """Features in the basis of their principal axes. rows: (N, R). power: (R,) mean square of each column."""

    rows: torch.Tensor
    power: torch.Tensor


def linear_probe_v1(
    features: FloatArray,
    labels: IntArray,
    queries: FloatArray,
    *,
    regularisations: Sequence[float],
    selection_share: float = 0.2,
    seed: int = 0,
) -> LinearProbe:
    """As `linear_probe`, but the search for C ends where three in a row were no better than one before.

    On uneven classes that can be at the start, where strong regularisation finds nothing but the largest class.
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
    selection = _select(rotated, target, held, classes, grid) if choose else {}
    best = max(selection, key=lambda c: (selection[c], -c)) if selection else grid[len(grid) // 2]
    weights = _fit(rotated.rows, target, classes, best, power=rotated.power)
    logits = rotated_queries @ weights[:-1] + weights[-1]
    return LinearProbe(logits.argmax(dim=1).numpy(), best, selection, logits.softmax(dim=1).numpy())


def _select(
    rotated: _Rotated,
    target: torch.Tensor,
    held: torch.Tensor,
    classes: int,
    grid: Sequence[float],
) -> dict[float, float]:
    """Held-out accuracy by C; each fit starts from the one before, and is as exact as a choice between them needs."""
    rows, seen = rotated.rows[~held], target[~held]
    selection: dict[float, float] = {}
    weights = None
    for c in grid:
        weights = _fit(rows, seen, classes, c, power=rotated.power, start=weights, tolerance=1e-4)
        right = _classes_of(rotated.rows[held], weights) == target[held]
        selection[c] = float(right.to(torch.float64).mean())
        scores = list(selection.values())
        if max(scores[-_PATIENCE:]) <= max(scores[:-_PATIENCE], default=0.0):
            break
    return selection


def _fit(
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
