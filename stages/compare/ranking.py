"""Which variant is best, and what each axis of a grid is worth by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from training.evaluation.intervals import paired_difference, t_interval

Variant = tuple[tuple[str, str], ...]
"""A value on each axis that is compared."""

_FEWEST = 3
"""Repetitions from which variants are told apart."""

Values = Mapping[Variant, Mapping[str, float]]
"""A figure of each variant by repetition."""


def ranking(values: Values, confidence: float) -> list[dict[str, Any]]:
    """Variants from the best mean down, each with how many others it is above, and below, beyond chance.

    Beyond chance: the t interval of the differences, paired by repetition, does not hold 0, of three repetitions at
    least (accuracies over few queries repeat: two equal differences are soon found). It does not allow for the number
    of comparisons.
    """
    means = {variant: fmean(runs.values()) for variant, runs in values.items()}
    rows = []
    for variant in sorted(means, key=lambda v: (-means[v], v)):
        signs = [_sign(values[variant], values[other], confidence) for other in values if other != variant]
        rows.append(
            {
                "variant": dict(variant),
                "mean": _rounded(means[variant]),
                "above": signs.count(1),
                "below": signs.count(-1),
            }
        )
    return rows


def _sign(runs: Mapping[str, float], others: Mapping[str, float], confidence: float) -> int:
    shared = sorted(runs.keys() & others.keys())
    if len(shared) < _FEWEST:
        return 0
    _, low, high = paired_difference([runs[r] for r in shared], [others[r] for r in shared], confidence)
    assert low is not None and high is not None
    return 1 if low > 0 else -1 if high < 0 else 0


def main_effects(values: Values, confidence: float) -> dict[str, Any] | None:
    """What each axis does on the average of the others: the analysis of variance of a full factorial design.

    Returns, of each axis with more than one level: each level's mean less the mean of all, with its t interval over
    repetitions; and the share of the sum of squares of each axis, of their `interactions`, and of the `repetitions`.
    None with fewer than two such axes, or where a combination or a repetition is missing.
    """
    levels: dict[str, list[str]] = {}
    for variant in values:
        for axis, level in variant:
            levels.setdefault(axis, [])
            levels[axis] += [level] if level not in levels[axis] else []
    axes = [axis for axis, found in levels.items() if len(found) > 1]
    repeats = sorted(set.intersection(*(set(runs) for runs in values.values())))
    whole = {tuple(zip(levels, point, strict=True)) for point in product(*levels.values())}
    if len(axes) < 2 or whole != set(values) or any(set(runs) != set(repeats) for runs in values.values()):
        return None
    grand = fmean(value for runs in values.values() for value in runs.values())
    total = sum((value - grand) ** 2 for runs in values.values() for value in runs.values())
    between = len(repeats) * sum((fmean(runs.values()) - grand) ** 2 for runs in values.values())
    effects, squares = {}, {}
    for axis in axes:
        members = {level: [runs for v, runs in values.items() if (axis, level) in v] for level in levels[axis]}
        effects[axis] = {level: _effect(members[level], values, repeats, confidence) for level in levels[axis]}
        per_level = len(repeats) * len(values) / len(levels[axis])
        squares[axis] = per_level * sum(row["effect"] ** 2 for row in effects[axis].values())
    squares["interactions"] = max(0.0, between - sum(squares.values()))
    squares["repetitions"] = max(0.0, total - between)
    shares = {name: _rounded(value / total) if total else 0.0 for name, value in squares.items()}
    rounded = {
        axis: {level: {k: _rounded(v) for k, v in row.items()} for level, row in rows.items()}
        for axis, rows in effects.items()
    }
    return {"effects": rounded, "shares": shares}


def _effect(
    members: Sequence[Mapping[str, float]], values: Values, repeats: Sequence[str], confidence: float
) -> dict[str, Any]:
    """The mean over variants of one level less that over all, one number a repetition, and their t interval."""
    differences = [
        fmean(runs[repeat] for runs in members) - fmean(runs[repeat] for runs in values.values()) for repeat in repeats
    ]
    effect, low, high = t_interval(differences, confidence)
    return {"effect": effect, "lo": low, "hi": high}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
