"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

_STEPS = 1 << 20
_CHUNK_ELEMENTS = 1 << 25

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


def knn_predictions(
    bank: FloatArray,
    bank_labels: IntArray,
    queries: FloatArray,
    ks: Sequence[int],
    *,
    temperature: float = 0.07,
) -> dict[int, IntArray]:
    """Predicted class of every query for each number of neighbours.

    Each of a query's k nearest bank rows by cosine similarity s votes for its class with exp(s / temperature)
    (Wu et al., 2018, arXiv:1805.01978; k = 20, temperature = .07 in DINO, arXiv:2104.14294).

    Ties have one answer whatever the order of the bank: similarities are rounded to 2^-20, equal ones enter in the
    order of their class, and equal votes go to the smaller class.

    bank: (N, D). bank_labels: (N,) in 0..K-1. queries: (Q, D). ks: each is cut to N.
    Returns (Q,) int64 classes by k. Raises ValueError on an empty bank or a k below 1.
    """
    if len(bank) == 0 or min(ks) < 1:
        raise ValueError(f"kNN needs a bank and k >= 1, got {len(bank)} rows and k = {list(ks)}")
    labels = torch.as_tensor(np.asarray(bank_labels, dtype=np.int64))
    classes = int(labels.max()) + 1
    most = min(max(ks), len(bank))
    columns = _unit_rows(bank).T.contiguous()
    predictions: dict[int, list[torch.Tensor]] = {k: [] for k in ks}
    for rows in _unit_rows(queries).split(max(1, _CHUNK_ELEMENTS // len(bank))):
        # One integer holds similarity and class: rows with the same integer vote alike, so it does not matter
        # which of them `topk` takes.
        steps = (rows @ columns).mul_(_STEPS).round_().to(torch.int64)
        keys = steps.mul_(classes).add_(classes - 1 - labels).topk(most, dim=1).values
        voted = classes - 1 - keys.remainder(classes)
        similarity = keys.div(classes, rounding_mode="floor").to(torch.float64) / _STEPS
        weights = torch.exp((similarity - similarity[:, :1]) / temperature)
        for k in ks:
            votes = torch.zeros(len(rows), classes, dtype=torch.float64)
            votes.scatter_add_(1, voted[:, : min(k, most)], weights[:, : min(k, most)])
            predictions[k].append(_first_maximum(votes))
    return {k: torch.cat(parts).numpy() if parts else np.zeros(0, np.int64) for k, parts in predictions.items()}


def nearest(bank: FloatArray, queries: FloatArray, k: int) -> tuple[IntArray, NDArray[np.float32]]:
    """The k nearest bank rows of each query by cosine similarity, nearest first, ties by row number.

    Returns (Q, k) row numbers and (Q, k) similarities; k is cut to the size of the bank.
    """
    similarity = (_unit_rows(queries) @ _unit_rows(bank).T).numpy()
    order = np.argsort(-np.round(similarity * _STEPS), axis=1, kind="stable")[:, :k]
    return order.astype(np.int64), np.take_along_axis(similarity, order, axis=1)


def _unit_rows(features: FloatArray) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(np.asarray(features, dtype=np.float32)), dim=1)


def _first_maximum(votes: torch.Tensor) -> torch.Tensor:
    """The smallest column that holds its row's maximum (torch's `argmax` leaves the choice open, numpy's not)."""
    return torch.as_tensor(votes.numpy().argmax(axis=1))
