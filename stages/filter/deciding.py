"""Thresholds over scores: which images are kept, and every reason against the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.filters.checks import Check, checks_in_use, odd_size_scores
from curation.filters.cleanvision import PREFIX, size_scores
from curation.filters.keep_probability import drawn
from stages.filter.presets import IMAGE_THRESHOLDS

if TYPE_CHECKING:
    from stages.filter.parameters import FilterParams


@dataclass(frozen=True)
class Verdicts:
    """Of N images: whether each is kept (N,), who speaks against it by reason code, and its keep probability."""

    keep: NDArray[np.bool_]
    against: Mapping[str, NDArray[np.bool_]]
    probability: NDArray[np.float32]

    def reasons(self) -> list[list[str]]:
        """The sorted codes of each image."""
        rows: list[list[str]] = [[] for _ in self.keep]
        for code in sorted(self.against):
            for row in np.flatnonzero(self.against[code]):
                rows[row].append(code)
        return rows


def with_pool_scores(table: pa.Table) -> pa.Table:
    """The scores with those that need the whole pool: how odd the sizes are, and how often captions stand there."""
    areas = score(table, "area").astype(np.float64)
    keys = np.frombuffer(b"".join(key or bytes(8) for key in table["text_key"].to_pylist()), np.uint64)
    _, inverse, numbers = np.unique(keys, return_inverse=True, return_counts=True)
    copies = np.where(table["text_key"].is_null().to_numpy(), np.nan, numbers[inverse]).astype(np.float32)
    columns: dict[str, NDArray[np.floating]] = {
        "odd_size": odd_size_scores(areas),
        PREFIX + "odd_size": size_scores(areas),
        "caption_copies": copies,
    }
    for name, values in columns.items():
        column = pa.array(values.astype(np.float32), mask=np.isnan(values))
        place = table.schema.get_field_index(name)
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    return table


def score(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A column of scores, NaN where an image has none; all NaN where the table has no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan, np.float32)
    return table[name].to_numpy().astype(np.float32)


def checks_of(params: FilterParams) -> list[tuple[Check, float]]:
    """Every check that the parameters ask for, users' filters included, with its threshold."""
    image = {name: getattr(params, name) for name in IMAGE_THRESHOLDS}
    image["watermark"] = params.watermark if params.watermark_model is not None else None
    chosen = checks_in_use(image, params.captions.thresholds(), params.cleanvision.model_dump())
    for name, rule in sorted(params.functions.items()):
        for limit, below in ((rule.min, True), (rule.max, False)):
            if limit is not None:
                chosen.append((Check(name, name, below, "number of the installed filter"), limit))
    return chosen


def decide(
    params: FilterParams, table: pa.Table, formats: list[str], probability: NDArray[np.floating] | None
) -> Verdicts:
    """Verdicts over a table of `with_pool_scores`.

    formats: of each image. probability: of keeping each image by chance (NaN: certain), or None.
    """
    against: dict[str, NDArray[np.bool_]] = {"undecodable": ~table["failure"].is_null().to_numpy()}
    for check, threshold in checks_of(params):
        dropped = check.against(score(table, check.score), threshold)
        against[check.name] = against.get(check.name, False) | dropped
    if params.formats is not None:
        wanted = {name.lower() for name in params.formats}
        against["format"] = np.array([name.lower() not in wanted for name in formats], bool)
    chance = np.ones(table.num_rows, np.float32)
    if probability is not None and params.keep_by is not None:
        chance = np.where(np.isnan(probability), 1, np.clip(probability, 0, 1)).astype(np.float32)
        against["chance"] = ~drawn(table["image_id"].to_pylist(), chance, params.keep_by.seed)
    dropped = np.zeros(table.num_rows, bool)
    for found in against.values():
        dropped |= found
    return Verdicts(~dropped, against, chance)


def counts(verdicts: Verdicts) -> list[dict[str, Any]]:
    """For each code: images that it speaks against, and those among them that nothing else does; most first."""
    total = np.sum(list(verdicts.against.values()), axis=0)
    rows = [
        {"reason": code, "images": int(found.sum()), "alone": int((found & (total == 1)).sum())}
        for code, found in verdicts.against.items()
    ]
    return sorted(rows, key=lambda row: (-row["images"], row["reason"]))
