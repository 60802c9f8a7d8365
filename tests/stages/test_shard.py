from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.artifact import Artifact
from stages.base import StageContext, StageError
from stages.in_process import InProcess
from stages.shard import Shard, ShardParams
from stages.tables import IMAGES, SELECTION, table_from_rows, write_part
from tests.training.samples import sample_rows
from training.shards import ShardReader


def artifact(kind: str, path: Path) -> Artifact:
    return Artifact(kind, kind, "key", "digest", path, {})


def inputs(folder: Path, images: list[dict[str, Any]], selection: list[dict[str, Any]]) -> dict[str, Artifact]:
    middle = len(images) // 3
    for part, rows in enumerate((images[middle:][::-1], images[:middle])):
        write_part(folder / "images", "images", part, table_from_rows(IMAGES, rows))
    write_part(folder / "selection", "selection", 0, table_from_rows(SELECTION, selection))
    return {name: artifact(name, folder / name) for name in ("images", "selection")}


def pool() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    images = [{**row, "format": "PNG", "width": 72, "height": 72} for row in sample_rows(60)]
    images = [{key: value for key, value in row.items() if key in IMAGES.schema.names} for row in images]
    images = [{**row, "frames": 1, "caption": (None, "a photograph")[i % 2]} for i, row in enumerate(images)]
    roles = ("train", "train", "holdout", "train", "dropped")
    selection = [
        {
            "image_id": row["image_id"],
            "role": roles[index % 5],
            "reason": "balanced",
            "cluster": [index % 3],
            "score": 0.5,
            "weight": 1.0 + index,
            "group_id": f"group-{index}",
        }
        for index, row in enumerate(images)
    ]
    return images, selection[::-1]


def context(folder: Path, given: dict[str, Artifact], **params: Any) -> StageContext[ShardParams]:
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    return StageContext(ShardParams(**params), work, given, InProcess())


def test_training_rows_come_out_sorted_with_their_columns(tmp_path: Path) -> None:
    images, selection = pool()
    ctx = context(tmp_path, inputs(tmp_path, images, selection), rows_per_shard=7)
    result = Shard(ctx.params).run(ctx)
    reader = ShardReader(ctx.work / "shards")
    wanted = sorted((row for row in selection if row["role"] == "train"), key=lambda row: row["image_id"])
    by_id = {row["image_id"]: row for row in images}
    assert result.rows_out == len(reader) == len(wanted) == 36
    for row, expected in enumerate(wanted):
        sample = reader.sample(row)
        picture = by_id[expected["image_id"]]
        assert sample["row"] == row
        assert {key: sample[key] for key in ("image_id", "cluster", "weight", "group_id")} == {
            key: expected[key] for key in ("image_id", "cluster", "weight", "group_id")
        }
        copied = ("bytes", "label", "orientation", "source", "source_weight")
        assert {key: sample[key] for key in copied} == {key: picture[key] for key in copied}
        assert sample["captions"] == ([picture["caption"]] if picture["caption"] else [])
        assert sample["frames"] == []
    assert not (ctx.work / "sorted").exists()


def test_layout_does_not_enter_the_digest_and_content_does(tmp_path: Path) -> None:
    images, selection = pool()
    digests = []
    for rows_per_shard in (5, 1000):
        ctx = context(tmp_path / str(rows_per_shard), inputs(tmp_path / str(rows_per_shard), images, selection))
        ctx.params = ShardParams(rows_per_shard=rows_per_shard)
        digests.append(Shard(ctx.params).run(ctx).digest)
    selection[0] = {**selection[0], "role": "train"}
    ctx = context(tmp_path / "changed", inputs(tmp_path / "changed", images, selection))
    digests.append(Shard(ctx.params).run(ctx).digest)
    assert digests[0] == digests[1] != digests[2]


def test_new_names_enter_the_digest_only_where_training_samples_by_them(tmp_path: Path) -> None:
    images, selection = pool()
    others = [{**row, "cluster": [row["cluster"][0] + 7], "group_id": "new"} for row in selection]
    renamed = [{**row, "source": f"new {row['source']}"} for row in images]
    pools = {"as it was": (images, selection), "clusters": (images, others), "sources": (renamed, selection)}
    for sample_by, counting in (([], []), (["cluster"], ["clusters"]), (["source"], ["sources"])):
        digests = {}
        for name, given in pools.items():
            folder = tmp_path / f"{name} {sample_by}"
            ctx = context(folder, inputs(folder, *given), sample_by=sample_by)
            digests[name] = Shard(ctx.params).run(ctx).digest
            assert list(ShardReader(ctx.work / "shards").index.sample_by) == sample_by
        assert [name for name in pools if digests[name] != digests["as it was"]] == counting


@pytest.mark.usefixtures("ray_cluster")
def test_the_same_shards_come_out_of_one_and_of_three_actors_of_ray(tmp_path: Path) -> None:
    from pipelines.executors.ray_compute import RayCompute

    images, selection = pool()
    given = inputs(tmp_path, images, selection)
    results = []
    for actors in (0, 1, 3):
        ctx = context(tmp_path / str(actors), given, rows_per_shard=7, rows_per_batch=3, actors=actors)
        ctx.compute = RayCompute(tmp_path / "scratch") if actors else InProcess()
        digest = Shard(ctx.params).run(ctx).digest
        results.append((digest, {path.name: path.read_bytes() for path in (ctx.work / "shards").iterdir()}))
    assert results[0] == results[1] == results[2]
    reader = ShardReader(ctx.work / "shards")
    assert (len(reader.entries), reader.index.rows_per_batch, reader.damaged()) == (6, 3, [])


def test_an_interrupted_stage_goes_on_from_its_parts(tmp_path: Path) -> None:
    images, selection = pool()
    given = inputs(tmp_path, images, selection)
    whole = context(tmp_path / "whole", given, rows_per_shard=7)
    expected = Shard(whole.params).run(whole)

    class Stopping(InProcess):
        def map(self, worker: type, config: Any, tasks: Any, **options: Any) -> None:
            super().map(worker, config, tasks[:2], **options)
            if len(tasks) > 2:
                raise KeyboardInterrupt

    broken = context(tmp_path / "broken", given, rows_per_shard=7)
    broken.compute = Stopping()
    with pytest.raises(KeyboardInterrupt):
        Shard(broken.params).run(broken)
    finished = {path.name: path.stat().st_mtime_ns for path in (broken.work / "shards").glob("*.arrow")}
    assert len(finished) == 2
    again = context(tmp_path / "broken", given, rows_per_shard=7)
    assert Shard(again.params).run(again).digest == expected.digest
    assert {name: (again.work / "shards" / name).stat().st_mtime_ns for name in finished} == finished
    files = {path.name: path.read_bytes() for path in (whole.work / "shards").iterdir()}
    assert {path.name: path.read_bytes() for path in (again.work / "shards").iterdir()} == files


def test_a_resume_may_lay_out_record_batches_anew(tmp_path: Path) -> None:
    images, selection = pool()
    given = inputs(tmp_path, images, selection)
    for rows_per_batch in (4, 3):
        ctx = context(tmp_path / "again", given, rows_per_shard=7, rows_per_batch=rows_per_batch)
        Shard(ctx.params).run(ctx)
    whole = context(tmp_path / "whole", given, rows_per_shard=7, rows_per_batch=3)
    Shard(whole.params).run(whole)
    files = {path.name: path.read_bytes() for path in (whole.work / "shards").iterdir()}
    assert {path.name: path.read_bytes() for path in (ctx.work / "shards").iterdir()} == files


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    images, selection = pool()
    none = [{**row, "role": "dropped"} for row in selection]
    ctx = context(tmp_path / "none", inputs(tmp_path / "none", images, none))
    with pytest.raises(StageError, match="no rows to train on"):
        Shard(ctx.params).run(ctx)
    ctx = context(tmp_path / "missing", inputs(tmp_path / "missing", images[:30], selection))
    with pytest.raises(StageError, match="rerun curate"):
        Shard(ctx.params).run(ctx)
