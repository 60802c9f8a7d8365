"""Arrow tables of Python rows, built from buffers.

pyarrow's own converters import pandas wherever it is installed, which takes longer than many a small stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from operator import index
from typing import Any

import numpy as np
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGERS = {pa.int8(): np.int8, pa.int32(): np.int32, pa.int64(): np.int64}


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table with exactly the columns of `schema`; missing values become null, keys beyond the schema are left out.

    Raises TypeError, ValueError, OverflowError or AttributeError where a value is none of its column's type.
    """
    columns = [column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def column(values: Sequence[Any], of: pa.DataType) -> pa.Array:
    """An array of type `of`: from buffers for texts, bytes, numbers and times in UTC, by pyarrow for the rest."""
    if of == pa.string():
        return _pieces(values, [b"" if value is None else value.encode() for value in values], of, np.int32)
    if of == pa.large_binary():
        return _pieces(values, [value or b"" for value in values], of, np.int64)
    if of in _INTEGERS:
        filled = np.array([0 if value is None else index(value) for value in values], _INTEGERS[of])
    elif of == pa.float32():
        filled = np.array([0 if value is None else value for value in values], np.float32)
    elif of == pa.timestamp("us", tz="UTC"):
        filled = np.array([0 if value is None else (value - _EPOCH) // _MICROSECOND for value in values], np.int64)
    else:
        return pa.array(values, of)
    return pa.Array.from_buffers(of, len(values), [_validity(values), pa.py_buffer(filled)])


def _pieces(values: Sequence[Any], pieces: list[bytes], of: pa.DataType, offset: type[np.integer]) -> pa.Array:
    ends = np.fromiter(accumulate(map(len, pieces), initial=0), offset, len(pieces) + 1)
    buffers = [_validity(values), pa.py_buffer(ends), pa.py_buffer(b"".join(pieces))]
    return pa.Array.from_buffers(of, len(pieces), buffers)


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    if None not in values:
        return None
    return pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
