"""Two models' predictions of the same images, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.evaluation.intervals import difference_interval


def paired_accuracy(
    own: Path | None, other: Path | None, of_set: str, column: str, seed: int
) -> tuple[float, float, float] | None:
    """Accuracy of `own` less that of `other` with its paired bootstrap interval.

    own, other: metrics artifacts. of_set: an evaluation set, or "" for the held-out images. column: of the table of
    predictions, such as `knn_trained`. None where one of them did not keep its predictions, or of other images.
    """
    sides = [_correct(folder, of_set, column) for folder in (own, other)]
    if sides[0] is None or sides[1] is None or sides[0].keys() != sides[1].keys():
        return None
    ids = sorted(sides[0])
    left, right = (np.array([side[image_id] for image_id in ids]) for side in (sides[0], sides[1]))
    low, high = difference_interval(left, right, seed=seed)
    return float(left.mean() - right.mean()), low, high


def _correct(folder: Path | None, of_set: str, column: str) -> dict[str, np.bool_] | None:
    """Whether each image was recognised, by its id."""
    path = folder / f"predictions{f'-{of_set}' if of_set else ''}.arrow" if folder else None
    if path is None or not path.exists():
        return None
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    if column not in table.column_names:
        return None
    right: NDArray[np.bool_] = table["truth"].to_numpy() == table[column].to_numpy()
    return dict(zip(table["image_id"].to_pylist(), right, strict=True))
