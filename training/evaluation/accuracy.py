"""Accuracy, overall, by class and balanced, from predicted and true classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def confusion_matrix(truth: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """(K, K) counts: row = true class, column = predicted class."""
    flat = np.asarray(truth, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def class_accuracy(truth: IntArray, predicted: IntArray, classes: int) -> NDArray[np.float64]:
    """(K,) share of each class's rows that are right; NaN for a class without rows."""
    matrix = confusion_matrix(truth, predicted, classes)
    total = matrix.sum(axis=1)
    return np.divide(np.diag(matrix), total, out=np.full(classes, np.nan), where=total > 0)


def accuracy(truth: IntArray, predicted: IntArray) -> float:
    """Share of rows that are right."""
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def balanced_accuracy(truth: IntArray, predicted: IntArray, classes: int) -> float:
    """Mean of the classes' accuracies, over the classes that have rows."""
    return float(np.nanmean(class_accuracy(truth, predicted, classes)))
