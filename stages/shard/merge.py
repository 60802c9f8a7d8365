"""An external merge sort: every part of the images is sorted once, then each shard takes its slice of every part."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.artifact import Artifact
from stages.base import StageContext, StageError, StageResult, committed
from stages.compute import Task
from stages.shard import ShardParams
from stages.tables import part_paths, read_table
from training.shards import SAMPLES, ShardEntry, ShardReader, content_digest, shard_entry, write_index, write_shard

_FROM_SELECTION = ["image_id", "cluster", "group_id", "weight"]
_FROM_IMAGES = ["image_id", "bytes", "orientation", "caption", "label"]
_ROWS_AT_ONCE = 1024


def write_shards(ctx: StageContext[ShardParams]) -> StageResult:
    """Run both passes on `ctx.compute`, then write the index."""
    images, selection = ctx.inputs["images"], ctx.inputs["selection"]
    selected = training_rows(selection.path)
    if selected.num_rows == 0:
        raise StageError("the selection has no rows to train on: loosen curate's quota, or add images to the pool")
    actors = ctx.params.actors or ctx.compute.cpus()
    runs = _sort_parts(ctx, images, selection, actors)
    shards = _merge(ctx, selected, runs, actors)
    write_index(ctx.work / "shards", shards, ctx.params.rows_per_shard)
    reader = ShardReader(ctx.work / "shards")
    missing = selected.num_rows - len(set(reader.column("image_id").to_pylist()))
    if missing:
        raise StageError(f"{missing} selected images are not in the images artifact: rerun curate on these images")
    _remove_leftovers(ctx.work, {entry.name for entry in shards})
    size = sum((ctx.work / "shards" / entry.name).stat().st_size for entry in shards)
    return StageResult(
        digest=content_digest(reader),
        rows_in=images.manifest.get("rows_out") if images.manifest else None,
        rows_out=len(reader),
        metrics={"shards": float(len(shards)), "bytes": float(size)},
        summary=f"{len(reader):,} samples in {len(shards)} shards, {size / 1e6:,.1f} MB",
    )


def training_rows(selection: Path) -> pa.Table:
    """Rows of a selection that train, in the order of image_id."""
    table = read_table(selection, "selection", ["role", *_FROM_SELECTION])
    return table.filter(pc.equal(table["role"], "train")).drop_columns("role").sort_by("image_id")


def _sort_parts(ctx: StageContext[ShardParams], images: Artifact, selection: Artifact, actors: int) -> list[Path]:
    parts = part_paths(images.path, "images")
    folder = ctx.work / "sorted"
    tasks = [{"part": str(part), "out": str(folder / f"{part.stem}.arrow")} for part in parts]
    waiting = [task for task in tasks if not Path(task["out"]).exists()]
    done = [len(tasks) - len(waiting)]

    def on_done(_: Task) -> None:
        done[0] += 1
        ctx.progress(done[0], len(tasks), unit="parts sorted")

    ctx.compute.map(
        SortPart, {"selection": str(selection.path)}, waiting, actors=min(actors, len(waiting) or 1), on_done=on_done
    )
    return [Path(task["out"]) for task in tasks]


def _merge(ctx: StageContext[ShardParams], selected: pa.Table, runs: list[Path], actors: int) -> list[ShardEntry]:
    ids, size = selected["image_id"], ctx.params.rows_per_shard
    folder = ctx.work / "shards"
    tasks: list[Task] = []
    for first in range(0, selected.num_rows, size):
        stop = min(first + size, selected.num_rows)
        tasks.append(
            {
                "first": first,
                "rows": stop - first,
                "from": ids[first].as_py(),
                "to": ids[stop - 1].as_py(),
                "out": str(folder / f"shard-{first:010d}-{stop:010d}.arrow"),
            }
        )
    waiting = [task for task in tasks if not Path(task["out"]).exists()]
    done = [sum(task["rows"] for task in tasks) - sum(task["rows"] for task in waiting)]

    def on_done(result: Task) -> None:
        done[0] += result["rows"]
        ctx.progress(done[0], selected.num_rows)

    ctx.compute.map(
        MergeShard,
        {"runs": [str(run) for run in runs]},
        waiting,
        actors=min(actors, len(waiting) or 1),
        on_done=on_done,
    )
    return [shard_entry(Path(task["out"]), task["rows"]) for task in tasks]


def _remove_leftovers(work: Path, names: set[str]) -> None:
    shutil.rmtree(work / "sorted", ignore_errors=True)
    for path in (work / "shards").glob("shard-*.arrow"):
        if path.name not in names:
            path.unlink()


class SortPart:
    """Task: the selected rows of one part of the images, joined with the selection, sorted by image_id."""

    def __init__(self, selection: str) -> None:
        self.selected = training_rows(Path(selection))

    def __call__(self, task: Task) -> Task:
        chunks = []
        for batch in pq.ParquetFile(task["part"]).iter_batches(_ROWS_AT_ONCE, columns=_FROM_IMAGES):
            wanted = pc.is_in(batch.column("image_id"), value_set=self.selected["image_id"].combine_chunks())
            chunks.append(pa.Table.from_batches([batch]).filter(wanted))
        rows = pa.concat_tables(chunks) if chunks else SAMPLES.empty_table().select(_FROM_IMAGES)
        rows = rows.sort_by("image_id")
        places = pc.index_in(rows["image_id"], value_set=self.selected["image_id"].combine_chunks())
        for name in _FROM_SELECTION[1:]:
            rows = rows.append_column(name, self.selected[name].take(places))
        rows = rows.append_column("row", places.cast(pa.int64())).select(SAMPLES.names).cast(SAMPLES)
        with (
            committed(Path(task["out"])) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, SAMPLES) as writer,
        ):
            writer.write_table(rows, max_chunksize=_ROWS_AT_ONCE)
        return {"rows": rows.num_rows}


class MergeShard:
    """Task: one range of image ids out of every sorted run, as a shard."""

    def __init__(self, runs: list[str]) -> None:
        self.runs = [pa.ipc.open_file(pa.memory_map(run)).read_all() for run in runs]

    def __call__(self, task: Task) -> Task:
        slices = [_between(run, task["from"], task["to"]) for run in self.runs]
        rows = pa.concat_tables(slices).sort_by("row")
        if rows.num_rows != task["rows"]:
            raise StageError(
                f"rows {task['first']} to {task['first'] + task['rows']}: {rows.num_rows} of {task['rows']} selected "
                "images were found; rerun curate on these images"
            )
        write_shard(Path(task["out"]), rows)
        return {"rows": rows.num_rows}


def _between(run: pa.Table, first: str, last: str) -> pa.Table:
    ids: Any = run["image_id"]
    inside = pc.and_(pc.greater_equal(ids, first), pc.less_equal(ids, last))
    count = pc.sum(inside).as_py() or 0
    return run.slice(pc.index(inside, True).as_py() if count else 0, count)
