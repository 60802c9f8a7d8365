"""What shifts and corruptions of the queries cost: accuracy, drop and mean corruption error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from training.evaluation.corruptions.catalogue import CORRUPTIONS, SEVERITIES, corrupt_all
from training.evaluation.intervals import Interval, difference_interval, wilson_interval
from training.evaluation.shifts import centre_crop, lower_resolution

IntArray = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Predictor = Callable[[Pixels], IntArray]
"""(N, H, W, 3) pixels to (N,) classes: preprocessing, backbone and a probe fitted on clean images."""


@dataclass(frozen=True)
class Shifted:
    """Accuracy under one shift.

    drop: from the clean queries, with its paired interval. same: share of the predictions that stay what they were.
    """

    name: str
    accuracy: float
    interval: Interval
    drop: float
    drop_interval: Interval
    same: float


def shift_table(
    predictor: Predictor,
    pixels: Pixels,
    truth: IntArray,
    shifts: Iterable[tuple[str, Callable[[Pixels], Pixels]]],
    *,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Shifted]:
    """Predict the clean pictures, row "clean", and each shifted copy. Raises ValueError without pictures."""
    if len(pixels) == 0:
        raise ValueError("robustness needs at least one picture")
    clean = predictor(pixels)
    found = {name: predictor(change(pixels)) for name, change in shifts}
    return shifted_rows(clean, found, truth, seed=seed, confidence=confidence)


def shifted_rows(
    clean: IntArray, shifted: Mapping[str, IntArray], truth: IntArray, *, seed: int = 0, confidence: float = 0.95
) -> list[Shifted]:
    """The rows of `shift_table` from (N,) predictions of the clean pictures and of each shifted copy, by name."""
    rows = []
    for name, found in (("clean", clean), *shifted.items()):
        right = found == truth
        interval = wilson_interval(int(right.sum()), len(right), confidence)
        drop_interval = difference_interval(clean == truth, right, seed=seed, confidence=confidence)
        drop = float((clean == truth).mean() - right.mean())
        rows.append(Shifted(name, float(right.mean()), interval, drop, drop_interval, float((found == clean).mean())))
    return rows


def corruption_shifts(
    keys: Sequence[str],
    *,
    names: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> list[tuple[str, Callable[[Pixels], Pixels]]]:
    """Shifts "gaussian_noise_1", ... for pictures with these keys, in the order of `names` and `severities`."""
    return [
        (f"{name}_{severity}", partial(corrupt_all, name=name, severity=severity, keys=keys, seed=seed))
        for name in names
        for severity in severities
    ]


def geometric_shifts(
    sides: Sequence[int], shares: Sequence[float] = (0.8, 0.6, 0.4)
) -> list[tuple[str, Callable[[Pixels], Pixels]]]:
    """Shifts "resolution_64", ... and "crop_0.8", ..."""
    return [
        *((f"resolution_{side}", partial(lower_resolution, side=side)) for side in sides),
        *((f"crop_{share:g}", partial(centre_crop, share=share)) for share in shares),
    ]


@dataclass(frozen=True)
class CorruptionError:
    """mce: mean corruption error, 1 where a model is as good as the reference; by_corruption: its terms.

    relative: the same of the errors beyond the clean one.
    """

    mce: float
    relative: float
    by_corruption: dict[str, float]


def mean_corruption_error(rows: Sequence[Shifted], reference: Sequence[Shifted]) -> CorruptionError:
    """mCE and relative mCE (Hendrycks and Dietterich, 2019, arXiv:1903.12261), against any reference model.

    CE_c = sum over severities of the errors / the same of the reference (there AlexNet; here, say, raw pixels or the
    untrained backbone); relative: with the clean errors subtracted on both sides. rows, reference: `shift_table` of
    the same corruptions. Terms without an error of the reference to divide by are left out; NaN where none is left.
    """
    ours, others = _errors(rows), _errors(reference)
    if ours.keys() != others.keys():
        raise ValueError("the reference was measured on other corruptions: give both the same")
    clean, base = ours.pop(""), others.pop("")
    terms = {name: _ratio(sum(errors), sum(others[name])) for name, errors in ours.items()}
    beyond = [
        _ratio(sum(errors) - len(errors) * clean[0], sum(others[name]) - len(errors) * base[0])
        for name, errors in ours.items()
    ]
    return CorruptionError(_mean(list(terms.values())), _mean(beyond), terms)


def _errors(rows: Sequence[Shifted]) -> dict[str, list[float]]:
    """Errors by corruption, those of the clean pictures under the empty name."""
    found: dict[str, list[float]] = {}
    for row in rows:
        name, _, severity = row.name.rpartition("_")
        if row.name == "clean" or (name in CORRUPTIONS and severity.isdecimal()):
            found.setdefault("" if row.name == "clean" else name, []).append(1 - row.accuracy)
    if "" not in found:
        raise ValueError("the table has no row 'clean'")
    return found


def _ratio(error: float, reference: float) -> float:
    return error / reference if reference > 0 else float("nan")


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def summary(rows: Sequence[Shifted]) -> Mapping[str, float]:
    """Mean accuracy over the corrupted rows and by severity: `corrupted`, `corrupted_1`, ..."""
    graded: dict[str, list[float]] = {}
    for row in rows:
        name, _, severity = row.name.rpartition("_")
        if name in CORRUPTIONS:
            graded.setdefault("corrupted", []).append(row.accuracy)
            graded.setdefault(f"corrupted_{severity}", []).append(row.accuracy)
    return {name: float(np.mean(values)) for name, values in graded.items()}
