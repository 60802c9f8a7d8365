"""Vectors that need not fit in memory, read in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCK_FLOATS = 1 << 22
_MOST_ROWS = 8192


class Rows(Protocol):
    """(N, d) numbers of any float type that slices of rows can be taken of: an array, or one mapped from a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


def blocks(points: Rows, width: int) -> Iterator[slice]:
    """Slices of rows, small enough for `width` further floats a row. They depend on the shapes alone."""
    size = min(_MOST_ROWS, max(64, _BLOCK_FLOATS // max(1, width)))
    for start in range(0, len(points), size):
        yield slice(start, min(start + size, len(points)))


def read_rows(points: Rows, block: slice, inside: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """The rows of a block, or those at the offsets `inside` it, as contiguous float32."""
    rows = points[block]
    if inside is not None and len(inside) < len(rows):
        rows = rows[inside]
    return np.ascontiguousarray(rows, dtype=np.float32)
