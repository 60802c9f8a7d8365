"""The embedding worker: reads a few rows of an images part, writes one part of the embeddings."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.embedders import Embedder
from stages.tables import embeddings_schema, write_part


def embeddings_table(ids: list[str], vectors: Any, metadata: dict[str, str]) -> pa.Table:
    """An embeddings table from (N, d) float16 rows."""
    schema = embeddings_schema(vectors.shape[1], metadata["model"], metadata["preprocessing"])
    flat = pa.array(vectors.reshape(-1), pa.float16())
    columns = [pa.array(ids, pa.string()), pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
    return pa.Table.from_arrays(columns, schema=schema)


def part_name(ids: list[str]) -> str:
    """Name of the part that holds exactly these rows."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:20]


class EmbedWorker:
    """Call with `{"images": part path, "rows": [row, ...], "out": artifact folder}`.

    Returns `{"rows": embedded, "failed": [[image_id, reason, detail], ...]}`.
    """

    def __init__(self, **settings: Any) -> None:
        self.embedder = Embedder(**settings)
        self._group: tuple[tuple[str, int], pa.Table] | None = None

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        rows = self._rows(task["images"], task["rows"])
        images = [(row["bytes"], row["orientation"] or 1) for row in rows]
        vectors, errors = self.embedder.embed(images)
        good = [index for index, error in enumerate(errors) if error is None]
        if good:
            ids = [rows[index]["image_id"] for index in good]
            table = embeddings_table(ids, vectors[good], self.embedder.description)
            write_part(Path(task["out"]), "embeddings", part_name(ids), table)
        failed = [
            [row["image_id"], error.reason_code, error.detail]
            for row, error in zip(rows, errors, strict=True)
            if error is not None
        ]
        return {"rows": len(good), "failed": failed}

    def _rows(self, path: str, wanted: list[int]) -> list[dict[str, Any]]:
        """Rows of an images part; the last row group is kept, since the next task often wants it."""
        file = pq.ParquetFile(path)
        found: list[dict[str, Any]] = []
        first = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            inside = [row - first for row in wanted if first <= row < first + size]
            first += size
            if not inside:
                continue
            if self._group is None or self._group[0] != (path, group):
                self._group = ((path, group), file.read_row_group(group, columns=["image_id", "bytes", "orientation"]))
            found += self._group[1].take(inside).to_pylist()
        return found
