"""The forward passes of an evaluation, spread over workers, each computed once and kept until the figures stand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.artifact import Artifact
from stages.base import StageContext, StageError, committed
from stages.compute import Task
from stages.evaluate import EvaluateParams
from training.evaluation.preprocessing import Preprocessing, read_preprocessing
from training.evaluation.protocol import PROTOCOLS, WideProtocol

CONTESTANTS = ("trained", "untrained", "pixels")
_PART_ROWS = 256
_PARTS_A_READ = 16
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("bytes", pa.large_binary()),
        ("orientation", pa.int8()),
        ("label", pa.int32()),
        ("query", pa.bool_()),
    ]
)


class Member(NamedTuple):
    """An image of a pass; label: its class, -1 for none; query: whether it is tested on."""

    image_id: str
    label: int = -1
    query: bool = False


@dataclass(frozen=True)
class Pass:
    """A task of the worker. kind: of `kinds.PASSES`. pictures: name of the group that it is shown. options: of it."""

    name: str
    kind: str
    pictures: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Outputs(NamedTuple):
    """What the backbones make of some images; rows are those that could be decoded, in the order asked for.

    features: (N, D) pooled, by contestant; of "pixels" uint8 colours. decoded: (all) whether each image could be.
    layers: (N, D) by name, such as "block_3/class". patches: (N, P, D) or None. cost: of the trained backbone.
    further: arrays of the other passes, by pass.
    """

    features: dict[str, NDArray[Any]]
    decoded: NDArray[np.bool_]
    layers: dict[str, NDArray[np.float16]]
    patches: NDArray[np.float16] | None
    cost: dict[str, float]
    further: dict[str, dict[str, NDArray[Any]]]


def compute_features(
    ctx: StageContext[EvaluateParams],
    ids: Sequence[str],
    pixel_side: int,
    images: Artifact | None = None,
    name: str = "",
    *,
    layers: int = 0,
    patches: bool = False,
    groups: Mapping[str, Sequence[Member]] | None = None,
    further: Sequence[Pass] = (),
) -> Outputs:
    """Run the passes that features need, and the `further` ones.

    images: where the images are, the pool if not given. name: of these among the images that the stage looks at, by
    which parts of an interrupted attempt are found. layers: how many to look into; patches: whether patch tokens are
    wanted. groups: the images of the further passes, by the name that these give.
    Raises StageError where the checkpoint is not whole.
    """
    checked_preprocessing(ctx.inputs["checkpoint"].path)
    options = {"layers": layers, "patches": patches, "pixel_side": pixel_side}
    parts = [ids[start : start + _PART_ROWS] for start in range(0, len(ids), _PART_ROWS)]
    shown = {f"part-{n:05d}": [Member(image_id) for image_id in part] for n, part in enumerate(parts)}
    passes = [Pass(f"features-{n:05d}", "features", group, options) for n, group in enumerate(shown)]
    folder, asked = ctx.work / "probe" / name, {**shown, **(groups or {})}
    out = _run(ctx, images or ctx.inputs["images"], folder, asked, [*passes, *further])
    loaded = [_arrays(out[p.name]) for p in passes]
    whole = [part for part in loaded if part["decoded"].any()]
    if not whole:
        raise StageError(f"none of the {len(ids)} images could be decoded: look at the ingest stage's report")
    joined = {key: np.concatenate([part[key] for part in whole]) for key in whole[0] if key not in ("decoded", "cost")}
    seconds, cpu_seconds, memory = np.concatenate([part["cost"] for part in whole]).T
    rows = sum(len(part["trained"]) for part in whole)
    return Outputs(
        {contestant: joined.pop(contestant) for contestant in CONTESTANTS},
        np.concatenate([part["decoded"] for part in loaded]),
        {key: values for key, values in joined.items() if key != "patches"},
        joined.get("patches"),
        {
            "features_seconds": float(seconds.sum()),
            "features_cpu_seconds": float(cpu_seconds.sum()),
            "features_images_per_s": rows / max(1e-9, float(seconds.sum())),
            "features_memory": float(memory.max()),
        },
        {p.name: _arrays(out[p.name]) for p in further},
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return dict(file)


def _run(
    ctx: StageContext[EvaluateParams],
    images: Artifact,
    folder: Path,
    groups: Mapping[str, Sequence[Member]],
    passes: Sequence[Pass],
) -> dict[str, Path]:
    """The file of arrays of each pass; those that stand from an interrupted attempt are not made again."""
    from stages.evaluate.worker import PassWorker

    out = {p.name: folder / f"{p.name}.npz" for p in passes}
    missing = [p for p in passes if not out[p.name].exists()]
    wanted = sorted({p.pictures for p in missing})
    _write_images(images, [(groups[name], folder / f"{name}.parquet") for name in wanted])
    tasks = [
        {"kind": p.kind, "images": str(folder / f"{p.pictures}.parquet"), "out": str(out[p.name]), **p.options}
        for p in missing
    ]
    total = sum(len(groups[p.pictures]) for p in passes)
    done = total - sum(len(groups[p.pictures]) for p in missing)

    def on_done(result: Task) -> None:
        nonlocal done
        done += result["rows"]
        ctx.progress(done, total, "images")

    params, compute = ctx.params, ctx.compute
    actors = params.actors or max(1, int(compute.gpus() or compute.cpus() // params.threads))
    protocol = PROTOCOLS[params.protocol]
    config = {
        "checkpoint": str(ctx.inputs["checkpoint"].path),
        "batch": params.batch,
        "threads": params.threads,
        "open_branches": isinstance(protocol, WideProtocol) and protocol.open_branches,
        "channels_last": isinstance(protocol, WideProtocol),
    }
    gpus = min(1.0, compute.gpus() / actors)
    compute.map(PassWorker, config, tasks, actors=actors, on_done=on_done, gpus_per_actor=gpus)
    return out


def remove_parts(work: Path) -> None:
    """Drop the images and arrays of the passes once the result stands."""
    shutil.rmtree(work / "probe", ignore_errors=True)


def checked_preprocessing(folder: Path) -> Preprocessing:
    """The preprocessing of a whole checkpoint, or StageError with what is wrong with it."""
    for name in ("config.json", "backbone.safetensors"):
        if not (folder / name).exists():
            raise StageError(f"the checkpoint {folder} has no {name}: rerun the stage that wrote it")
    try:
        return read_preprocessing(folder)
    except ValueError as error:
        raise StageError(f"the checkpoint {folder} cannot be evaluated: {error}") from None


def _write_images(images: Artifact, parts: Sequence[tuple[Sequence[Member], Path]]) -> None:
    """One Parquet file a group with its images in order, so that a worker reads no more than its own."""
    from stages.pictures import read_pictures

    for start in range(0, len(parts), _PARTS_A_READ):
        block = parts[start : start + _PARTS_A_READ]
        asked = [member.image_id for members, _ in block for member in members]
        pictures = read_pictures(images, asked)
        missing = [image_id for image_id in asked if image_id not in pictures]
        if missing:
            raise StageError(
                f"{len(missing)} images of the selection are not in the images artifact (first: {missing[0]}): "
                "connect the images that the selection was made from"
            )
        for members, path in block:
            found = [pictures[member.image_id] for member in members]
            rows = [
                {**member._asdict(), "bytes": picture.bytes, "orientation": picture.orientation}
                for member, picture in zip(members, found, strict=True)
            ]
            with committed(path) as temporary:
                pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary, compression="none")
