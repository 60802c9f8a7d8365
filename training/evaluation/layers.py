"""One row of measures for each layer, pooling or side of the projector, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.probe import Predictions, gain, label_free, predict, score
from training.evaluation.protocol import Protocol

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


def layer_table(
    features: Mapping[str, tuple[FloatArray, FloatArray]],
    bank_labels: IntArray,
    query_labels: IntArray,
    protocol: Protocol,
    *,
    reference: str | None = None,
    known: Mapping[str, Predictions] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Probes and label-free measures of every set of features, in the order of `features`.

    features: (bank (N, D_i), queries (Q, D_i)) by name: "block_3", "block_3/average", "backbone", "projector", ...
    What is before the projector usually serves better than what is after it (Bordes et al., 2022, arXiv:2206.13378).
    reference: a name; the other rows get "knn_gain" and "linear_gain", the paired difference to it on the same
    queries. known: what the probes say of some of the names, where that was computed before. Returns rows with
    "name", "dim", "knn", "knn_lo", ..., "linear", ..., "rankme", "effective_rank", "unit_std". Raises ValueError where
    `reference` is none of the names.
    """
    if reference is not None and reference not in features:
        raise ValueError(f"reference '{reference}' is none of {', '.join(features)}")
    classes = int(max(np.max(bank_labels), np.max(query_labels))) + 1
    predicted = {
        name: (known or {}).get(name)
        or predict(bank, bank_labels, queries, query_labels, protocol, k_grid=(), seed=seed)
        for name, (bank, queries) in features.items()
    }
    rows = []
    for name, (bank, _) in features.items():
        row: dict[str, Any] = {"name": name, "dim": bank.shape[1]}
        for probe in ("knn", "linear"):
            mine = getattr(predicted[name], probe)
            found = score(query_labels, mine, classes, protocol, seed=seed)
            row |= {f"{probe}{suffix}": value for suffix, value in found.items()}
            if reference is not None and name != reference:
                gains = gain(query_labels, mine, getattr(predicted[reference], probe), protocol, seed=seed)
                row |= {f"{probe}_gain{suffix}": value for suffix, value in gains.items()}
        rows.append(row | label_free(bank, protocol))
    return rows
