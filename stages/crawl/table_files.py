"""Rows of table files, one after the other: text lines, CSV, JSON, Parquet, Arrow IPC."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base import StageError
from stages.crawl.file_names import BINARY_TABLES, bare_suffix
from stages.crawl.storage import StoredFile, open_inflated, open_stored

LINE = "line"
"""Name of the one column of a file of plain lines."""

_BATCH = 1024
_LONGEST_ROW = 16_000_000

Row = dict[str, Any]


def is_binary(uri: str) -> bool:
    """Whether a table has a schema, and rows that can be found by number."""
    return bare_suffix(uri) in BINARY_TABLES


def schema_of(file: StoredFile, options: Mapping[str, Any]) -> pa.Schema:
    """Schema of a Parquet or Arrow file. Raises `storage.DAMAGED`."""
    with open_stored(file.uri, options) as opened:
        return BinaryTable(opened, file.uri).schema


class BinaryTable:
    """A Parquet or Arrow file: its row groups or record batches by number."""

    def __init__(self, opened: BinaryIO, uri: str) -> None:
        self._parquet: pq.ParquetFile | None = None
        self._file: Any = None
        self._stream: Any = None
        if bare_suffix(uri) == ".parquet":
            self._parquet = pq.ParquetFile(opened)
            self.schema = self._parquet.schema_arrow
            return
        head = opened.read(6)
        opened.seek(0)
        source = pa.memory_map(opened.name) if isinstance(opened, io.BufferedReader) and opened.name else opened
        if head == b"ARROW1":
            self._file = pa.ipc.open_file(source)
        else:  # the stream format, as Hugging Face data sets have it
            self._stream = pa.ipc.open_stream(source)
        self.schema = (self._file or self._stream).schema

    def batches(self, columns: Sequence[str], first: int = 0) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """(group, row of the group, record batch) from group `first` on, in bounded memory."""
        if self._parquet is not None:
            for group in range(first, self._parquet.num_row_groups):
                row = 0
                for batch in self._parquet.iter_batches(
                    64 if _has_bytes(self.schema, columns) else _BATCH, row_groups=[group], columns=list(columns)
                ):
                    yield group, row, batch
                    row += batch.num_rows
            return
        groups = (
            ((n, self._file.get_batch(n)) for n in range(first, self._file.num_record_batches))
            if self._file is not None
            else enumerate(self._stream)
        )
        for group, batch in groups:
            for row in range(0, batch.num_rows if group >= first else 0, _BATCH):
                yield group, row, batch.slice(row, _BATCH).select(list(columns))


def _has_bytes(schema: pa.Schema, columns: Sequence[str]) -> bool:
    return any(not _is_small(schema.field(name).type) for name in columns)


def _is_small(type_: pa.DataType) -> bool:
    return not (pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_struct(type_))


def text_rows(file: StoredFile, options: Mapping[str, Any]) -> Iterator[tuple[int, Row]]:
    """(line or row number, row) of a text table.

    Raises StageError where the file is no such text, and `storage.DAMAGED` where it cannot be read to its end.
    """
    suffix = bare_suffix(file.uri)
    with open_inflated(file.uri, options) as opened, io.TextIOWrapper(opened, "utf-8-sig", newline="") as text:
        try:
            if suffix == ".txt":
                for number, line in enumerate(text, 1):
                    if line.strip() and not line.lstrip().startswith("#"):
                        yield number, {LINE: line}
            elif suffix in (".jsonl", ".ndjson"):
                yield from _json_lines(text, file)
            elif suffix == ".json":
                yield from _json_rows(text, file)
            else:
                csv.field_size_limit(_LONGEST_ROW)
                reader = csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ",")
                if not reader.fieldnames:
                    raise StageError(f"crawl.sources: '{file.path}' is empty; its first line has to name the columns")
                yield 0, dict.fromkeys(reader.fieldnames)
                yield from ((reader.line_num, {k: v for k, v in row.items() if k is not None}) for row in reader)
        except UnicodeDecodeError:
            raise StageError(f"crawl.sources: '{file.path}' is not UTF-8 text; save it as UTF-8") from None
        except csv.Error as error:
            raise StageError(f"crawl.sources: '{file.path}' is not a table that can be read: {error}") from None


def _json_lines(text: io.TextIOWrapper, file: StoredFile) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, _object(line, f"line {number}", file)


def _object(text: str, where: str, file: StoredFile) -> Row:
    try:
        row = json.loads(text)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise StageError(f"crawl.sources: '{file.path}', {where} is not a JSON object; correct it")
    return row


def _json_rows(text: io.TextIOWrapper, file: StoredFile) -> Iterator[tuple[int, Row]]:
    """Objects of a JSON array, or one after the other, without holding more than the one at hand."""
    decoder, buffer, number = json.JSONDecoder(), "", 0
    while True:
        buffer = buffer.lstrip(" \t\r\n,[]")
        try:
            row, end = decoder.raw_decode(buffer)
        except ValueError:
            more = text.read(65_536)
            if not more and not buffer:
                return
            if not more or len(buffer) > _LONGEST_ROW:
                raise StageError(
                    f"crawl.sources: '{file.path}', row {number + 1} is not a JSON object; write an array of objects"
                ) from None
            buffer += more
            continue
        number += 1
        if not isinstance(row, dict):
            raise StageError(f"crawl.sources: '{file.path}', row {number} is not a JSON object; correct it")
        yield number, row
        buffer = buffer[end:]
