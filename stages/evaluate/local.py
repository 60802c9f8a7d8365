"""Figures of local features, and the few pictures whose local features are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from stages.evaluate.evaluated import TokenSamples
from stages.evaluate.figures import Figures, named
from training.evaluation.norm_outliers import norm_outliers

Arrays = Mapping[str, NDArray[Any]]


def token_samples(arrays: Arrays, ids: Sequence[str]) -> TokenSamples | None:
    """The pictures that the pass "tokens" keeps. ids: of all that it was shown and could be decoded."""
    if "trained_patches" not in arrays:
        return None
    shown = len(arrays["pixels"])
    return TokenSamples(
        list(ids[:shown]),
        arrays["pixels"],
        arrays["trained_patches"],
        arrays["untrained_patches"],
        arrays.get("attention"),
        arrays["trained_norms"][:shown],
    )


def local_figures(arrays: Arrays, seed: int) -> tuple[Figures, dict[str, Any]]:
    """Norm outliers and correspondence of both backbones; the distance that each head attends over, for the record."""
    figures: Figures = {}
    for contestant in ("trained", "untrained") if "trained_norms" in arrays else ():
        norms = arrays[f"{contestant}_norms"]
        found = norm_outliers(norms.reshape(len(norms), -1, 1), seed=seed)
        low, high = found.interval
        own = {"": found.share, "_lo": low, "_hi": high}
        figures |= named({f"norm_outlier_share{suffix}": value for suffix, value in own.items()}, contestant)
        for alpha, share, lower, upper in json.loads(str(arrays.get(f"{contestant}_pck", "[]"))):
            own = {"": share, "_lo": lower, "_hi": upper}
            figures |= named({f"pck_{alpha:g}{suffix}": value for suffix, value in own.items()}, contestant)
    if "attention_distance" not in arrays:
        return figures, {}
    return figures, {"attention_distance": arrays["attention_distance"].tolist()}
