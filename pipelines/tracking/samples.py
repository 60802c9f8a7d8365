"""The first rows of an artifact's tables in the form in which MLflow shows tables: it has no preview of Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS = 20
_TABLES = 12
_TEXT = 200
_NUMBERS = 6


def table_samples(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and `{"columns", "data"}` of each table of an artifact, by name: some rows of its first file.

    Bytes are left out, vectors and texts cut short. A file that cannot be read has no sample.
    """
    files: dict[str, Path] = {}
    for path in sorted([*folder.glob("*/*.parquet"), *folder.glob("*.arrow"), *folder.glob("*/*.arrow")]):
        parts = path.name.startswith(("part-", "shard-"))
        files.setdefault(path.parent.name if parts else path.stem, path)
    for name, path in list(files.items())[:_TABLES]:
        try:
            rows = _first_rows(path)
        except (OSError, pa.ArrowException):
            continue
        yield name, _shown(rows)


def _first_rows(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        columns = [field.name for field in file.schema_arrow if not _is_bytes(field.type)]
        batch = next(file.iter_batches(_ROWS, columns=columns), None)
        return pa.Table.from_batches([batch] if batch else [], None if batch else pa.schema([]))
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        columns = [field.name for field in reader.schema if not _is_bytes(field.type)]
        batches = [reader.get_batch(0)] if reader.num_record_batches else []
        return pa.Table.from_batches(batches, reader.schema).select(columns).slice(0, _ROWS)


def _is_bytes(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return pa.types.is_binary(inner) or pa.types.is_large_binary(inner) or pa.types.is_fixed_size_binary(inner)


def _shown(rows: pa.Table) -> dict[str, Any]:
    columns = [[_cell(value) for value in column.to_pylist()] for column in rows.columns]
    return {"columns": rows.column_names, "data": [list(row) for row in zip(*columns, strict=True)]}


def _cell(value: Any) -> Any:
    if isinstance(value, list) and len(value) > _NUMBERS:
        return f"{json.dumps(value[:_NUMBERS], default=str)[:-1]}, … {len(value)} in all]"
    text = json.dumps(value, default=str) if isinstance(value, list | dict) else value
    if isinstance(text, bool | int | float) or text is None:
        return text
    return str(text) if len(str(text)) <= _TEXT else f"{str(text)[:_TEXT]}…"
