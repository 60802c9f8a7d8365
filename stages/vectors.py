"""Embeddings of an artifact as one array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.tables import read_table


def read_vectors(artifact: Path) -> tuple[list[str], NDArray[np.float16]]:
    """Ids in ascending order and their (N, d) float16 vectors."""
    table = read_table(artifact, "embeddings").combine_chunks().sort_by("image_id")
    column = table["embedding"].combine_chunks()
    width = column.type.list_size
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return table["image_id"].to_pylist(), np.asarray(vectors, np.float16)
