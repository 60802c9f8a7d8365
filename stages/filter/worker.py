"""The scoring worker: reads a few rows of an images part, writes one part of the scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation.decoding import DecodeError, decode, stored_mode
from curation.filters.captions import CaptionScorer, read_word_list, text_key
from curation.filters.cleanvision import cleanvision_scores
from curation.filters.functions import ROW_COLUMNS, load_filter, run_filter
from curation.filters.pixels import WORKING_SIDE, pixel_scores, working_picture
from stages.base import committed
from stages.image_rows import RowReader, part_name

KEYS = pa.schema(
    [("image_id", pa.string()), ("row_key", pa.binary(8)), ("text_key", pa.binary(8)), ("failure", pa.string())]
)
"""Columns of a part beside the scores: what was scored, the caption's words, and why a picture could not be."""

_BATCH = 64
_READ = list(dict.fromkeys(["bytes", "orientation", *ROW_COLUMNS]))


def row_key(row: dict[str, Any], functions: bool) -> bytes:
    """8 bytes of what the scores of an image are made of: itself, its caption, and what users' `functions` see."""
    names = ROW_COLUMNS if functions else ("image_id", "caption")
    text = json.dumps([row[name] for name in names], ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


class FilterWorker:
    """Call with `{"images": part path, "rows": [row, ...], "out": folder, "digest": of the scorers}`.

    Returns `{"rows": scored, "failed": those that did not decode}`.
    """

    def __init__(
        self,
        captions: dict[str, Any],
        watermark: dict[str, Any] | None,
        image_text: dict[str, Any] | None,
        functions: list[str],
    ) -> None:
        vocabulary = captions["vocabulary"]
        self.captions = CaptionScorer(
            frozenset(captions["languages"]),
            tuple(captions["blacklist"]),
            read_word_list(Path(vocabulary).expanduser()) if vocabulary else frozenset(),
        )
        self.functions = {name: load_filter(name) for name in functions}
        self.watermark: Any = None
        self.image_text: Any = None
        if watermark:
            from curation.filters.watermarks import Classifier, WatermarkScorer

            self.watermark = WatermarkScorer(Classifier(**watermark))
        if image_text:
            from curation.filters.image_text import ImageTextModel, ImageTextScorer

            self.image_text = ImageTextScorer(ImageTextModel(**image_text))
        self.reader = RowReader(_READ)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        rows = self.reader.rows(task["images"], task["rows"])
        found: list[dict[str, Any]] = []
        for start in range(0, len(rows), _BATCH):
            found += self._scored(rows[start : start + _BATCH])
        path = Path(task["out"]) / f"part-{part_name([row['image_id'] for row in rows])}.parquet"
        with committed(path) as temporary:
            pq.write_table(scores_table(found, task["digest"]), temporary, compression="zstd")
        return {"rows": len(rows), "failed": sum(row["failure"] is not None for row in found)}

    def _scored(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found, pictures = [], []
        for row in rows:
            caption = row["caption"]
            scores: dict[str, Any] = {
                "image_id": row["image_id"],
                "row_key": row_key(row, bool(self.functions)),
                "text_key": text_key(caption) if caption else None,
                "failure": None,
                "small": min(row["width"], row["height"]),
                "aspect": max(row["width"], row["height"]) / min(row["width"], row["height"]),
                "area": row["width"] * row["height"],
                "low_detail": len(row["bytes"]) / (row["width"] * row["height"]),
                **self.captions(caption),
            }
            try:
                picture = working_picture(row["bytes"], row["orientation"] or 1)
                scores |= pixel_scores(picture)
                scores |= cleanvision_scores(picture, stored_mode(row["bytes"]), (row["width"], row["height"]))
                pictures.append((picture, row, scores))
            except DecodeError as error:
                scores["failure"] = error.reason_code
            found.append(scores)
        if pictures:
            self._by_models(pictures)
        return found

    def _by_models(self, pictures: list[tuple[Image.Image, dict[str, Any], dict[str, Any]]]) -> None:
        """Add what models and users' filters say, a batch at a time."""
        columns: dict[str, Any] = {}
        if self.watermark:
            columns["watermark"] = self.watermark(self._for_model(pictures, self.watermark.size))
        if self.image_text:
            captions = [row["caption"] for _, row, _ in pictures]
            columns |= self.image_text(self._for_model(pictures, self.image_text.size), captions)
        if self.functions:
            images = [np.asarray(picture) for picture, _, _ in pictures]
            told = [{name: row[name] for name in ROW_COLUMNS} for _, row, _ in pictures]
            for name, function in self.functions.items():
                columns[name] = run_filter(name, function, images, told)
        for name, values in columns.items():
            for (_, _, scores), value in zip(pictures, values, strict=True):
                scores[name] = float(value)

    def _for_model(self, pictures: list[tuple[Image.Image, dict[str, Any], Any]], size: int) -> list[Image.Image]:
        """The working pictures, or larger ones where the model looks at more pixels than those have."""
        if size <= WORKING_SIDE:
            return [picture for picture, _, _ in pictures]
        return [decode(row["bytes"], orientation=row["orientation"] or 1, draft_size=size) for _, row, _ in pictures]


def scores_table(rows: list[dict[str, Any]], digest: str) -> pa.Table:
    """The `KEYS` and a float32 column for each score, by name; NaN and what is not there are null."""
    names = sorted({name for row in rows for name in row} - set(KEYS.names))
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in KEYS]
    for name in names:
        values = np.array([row.get(name, np.nan) for row in rows], np.float32)
        columns.append(pa.array(values, mask=np.isnan(values)))
    schema = pa.schema([*KEYS, *[(name, pa.float32()) for name in names]], metadata={"scorers": digest})
    return pa.Table.from_arrays(columns, schema=schema)
