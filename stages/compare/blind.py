"""Pairs of held-out images that one of the compared models takes for alike and another sees as different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.compare import BlindPairParams
from stages.compare.models import Model
from stages.compare.similarity import FEATURES
from stages.evaluate.feature_tables import read_features, read_ids, read_roles, tables_of
from stages.tables import write_part
from training.evaluation.blind_pairs import BlindPairs, blind_pairs
from training.evaluation.sphere import unit_rows

TABLE = "blind_pairs"
_SCHEMA = pa.schema(
    [
        ("blind", pa.string()),  # the model that takes the two images for alike
        ("seeing", pa.string()),  # the model that sees them as different
        ("image_a", pa.string()),
        ("image_b", pa.string()),
        ("cosine_blind", pa.float64()),
        ("cosine_seeing", pa.float64()),
    ]
)
_TYPICAL_OF = 500
"""Images whose pairs say what cosine two images have on the whole."""


@dataclass(frozen=True)
class Blindness:
    """What was found. images: (N,) ids. pairs: by (blind model, seeing model). record: for `comparison.json`."""

    images: NDArray[np.str_]
    pairs: Mapping[tuple[str, str], BlindPairs]
    record: dict[str, Any]


def find_blind_pairs(models: Sequence[Model], params: BlindPairParams, left_out: int) -> Blindness | None:
    """Blind pairs (arXiv:2401.06209) of every ordered two of the models, over the held-out images that all have.

    Where nothing is held out, over all images of the evaluations. Cosines are of features less their mean over these
    images, by `params.centred`: features of a short training share a direction that lifts the cosine of any two
    images, and by different amounts in different models, so that no threshold would mean the same to two of them.
    left_out: evaluations that are not held against the others. None where features are missing, or with fewer than
    two models or images.
    """
    paths = {model.name: tables_of(model.metrics.path) / FEATURES for model in models}
    if len(models) < 2 or not all(path.exists() for path in paths.values()):
        return None
    tables = {name: _Table.read(path) for name, path in paths.items()}
    held_out = all((table.roles == "queries").any() for table in tables.values())
    of_each = [table.ids[table.roles == "queries"] if held_out else table.ids for table in tables.values()]
    images = reduce(np.intersect1d, of_each)[: params.images]
    if len(images) < 2:
        return None
    raw = {name: table.of(images) for name, table in tables.items()}
    used = {name: x - x.mean(axis=0) if params.centred else x for name, x in raw.items()}
    pairs = {
        (a, b): blind_pairs(used[a], used[b], above=params.above, below=params.below, limit=params.limit)
        for a, b in permutations(used, 2)
    }
    told = {
        **{name: getattr(params, name) for name in ("above", "below", "centred", "limit")},
        "images": len(images),
        "held_out": held_out,
        "left_out": left_out,
        "models": [{"name": n, "typical_raw": _typical(raw[n]), "typical": _typical(used[n])} for n in raw],
        "pairs": [
            {"blind": a, "seeing": b, "found": of.found, "listed": len(of.rows)} for (a, b), of in pairs.items()
        ],
    }
    return Blindness(images, pairs, told)


def write_blind_pairs(work: Path, found: Blindness) -> None:
    """The table `blind_pairs`, models in the order compared, of each two the widest gap first."""
    columns: list[list[Any]] = [[] for _ in _SCHEMA]
    for (blind, seeing), pairs in found.pairs.items():
        a, b = found.images[pairs.rows].reshape(-1, 2).T.tolist()
        values = ([blind] * len(a), [seeing] * len(a), a, b, pairs.blind.tolist(), pairs.seeing.tolist())
        for column, more in zip(columns, values, strict=True):
            column += more
    write_part(work, TABLE, 0, pa.table(columns, schema=_SCHEMA))


@dataclass(frozen=True)
class _Table:
    """A table of features: (N,) ids and roles, (N, D) features."""

    ids: NDArray[np.str_]
    roles: NDArray[np.str_]
    features: NDArray[np.float32]

    @classmethod
    def read(cls, path: Path) -> _Table:
        return cls(read_ids(path), read_roles(path), read_features(path))

    def of(self, ids: NDArray[np.str_]) -> NDArray[np.float32]:
        return self.features[np.intersect1d(ids, self.ids, return_indices=True)[2]]


def _typical(features: NDArray[np.float32]) -> float:
    """The median cosine of two images."""
    x = unit_rows(features[:_TYPICAL_OF])
    return round(float(np.median((x @ x.T)[np.triu_indices(len(x), 1)])), 4)
