"""Frozen features as Arrow files: one table for each set, contestant, layer and pooling, which every probe reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.base import committed
from stages.evaluate.split import Split
from training.evaluation.probe import Predictions
from training.evaluation.squares import unit_colours


def tables_of(work: Path, name: str = "") -> Path:
    """The folder of the tables of an evaluation set, or of the pool."""
    return work / "features" / "sets" / name if name else work / "features" / "pool"


def write_features(
    folder: Path, split: Split, features: Mapping[str, NDArray[Any]], origin: Mapping[str, str]
) -> dict[str, Path]:
    """One Arrow IPC file for each of `features`, by its name with "/" as "-"; whole or not at all.

    features: (bank + queries, D) by "contestant/layer/pooling". Columns: image_id; role, "bank" or "queries"; label,
    null without one; vector, a fixed-size list as precise as the features are. origin: goes into the schema's metadata
    with the name.
    """
    ids, columns = [*split.bank, *split.queries], _columns(split)
    paths: dict[str, Path] = {}
    for name, values in features.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        table = pa.table({"image_id": ids, **columns, "vector": vectors})
        contestant, layer, pooling = name.split("/")
        told = {**origin, "contestant": contestant, "layer": layer, "pooling": pooling}
        paths[name] = folder / f"{name.replace('/', '-')}.arrow"
        _write(table.replace_schema_metadata(told), paths[name])
    return paths


def write_predictions(path: Path, split: Split, predictions: Mapping[str, Predictions]) -> None:
    """What the probes say of each query: image_id, truth, and `knn_trained`, `linear_trained`, ...; classes as
    numbers, whose names are in the schema's metadata as `classes`."""
    said = {
        f"{probe}_{contestant}": getattr(predicted, probe)
        for contestant, predicted in predictions.items()
        for probe in ("knn", "linear")
    }
    columns = {"truth": np.array(split.query_labels, np.int64), **said}
    table = pa.table({"image_id": pa.array(split.queries, pa.string()), **columns})
    _write(table.replace_schema_metadata({"classes": json.dumps(split.classes)}), path)


def _write(table: pa.Table, path: Path) -> None:
    with committed(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table, max_chunksize=65_536)


def _columns(split: Split) -> dict[str, pa.Array]:
    roles = ["bank"] * len(split.bank) + ["queries"] * len(split.queries)
    labels = [split.classes[label] for label in (*split.bank_labels, *split.query_labels)]
    named = pa.array(labels, pa.string()) if split.labelled else pa.nulls(len(roles), pa.string())
    return {"role": pa.array(roles), "label": named}


def read_features(path: Path) -> NDArray[np.float32]:
    """(N, D) vectors of a table, in its order; colours as shares of full light."""
    with pa.memory_map(str(path)) as source:
        column = pa.ipc.open_file(source).read_all()["vector"]
    parts = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(chunk), -1) for chunk in column.chunks]
    vectors = np.concatenate(parts)
    return unit_colours(vectors) if vectors.dtype == np.uint8 else vectors.astype(np.float32, copy=False)


def read_roles(path: Path) -> NDArray[np.str_]:
    """(N,) "bank" or "queries" of each row of a table."""
    with pa.memory_map(str(path)) as source:
        return np.array(pa.ipc.open_file(source).read_all()["role"].to_pylist(), dtype=str)


def read_ids(path: Path) -> NDArray[np.str_]:
    """(N,) the image id of each row of a table."""
    with pa.memory_map(str(path)) as source:
        return np.array(pa.ipc.open_file(source).read_all()["image_id"].to_pylist(), dtype=str)
