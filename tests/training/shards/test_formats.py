from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from PIL import Image

from tests.training.samples import photographs, sample_rows
from tests.training.shards.arbitrary import numbered, samples, write
from training.shards import ShardError, ShardReader
from training.shards.importing import import_samples, source_files
from training.shards.parquet import export_parquet, parquet_samples
from training.shards.webdataset import SUFFIXES, export_webdataset, webdataset_samples

FORMATS: dict[str, tuple[Callable[..., list[Path]], Callable[..., Any], tuple[str, ...]]] = {
    "webdataset": (export_webdataset, webdataset_samples, SUFFIXES),
    "parquet": (export_parquet, parquet_samples, (".parquet",)),
}


def imported(source: Path | str, name: str, out: Path, **options: int) -> tuple[ShardReader, dict[str, int]]:
    _, samples_of, suffixes = FORMATS[name]
    _, skipped = import_samples(samples_of(source_files(str(source), suffixes)), out, **options)
    return ShardReader(out), dict(skipped)


def all_samples(reader: ShardReader) -> list[dict[str, Any]]:
    return [reader.sample(row) for row in range(len(reader))]


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=30, deadline=None)
@given(rows=samples)
def test_a_round_trip_keeps_every_column(name: str, rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader = ShardReader(write(Path(folder) / "shards", rows))
        FORMATS[name][0](reader, Path(folder) / "out")
        again, skipped = imported(Path(folder) / "out", name, Path(folder) / "again", rows_per_shard=5)
        assert all_samples(again) == numbered(rows)
        assert skipped == {}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_shards_give_the_same_files(name: str, tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path / "shards", sample_rows(20)))
    one, other = (FORMATS[name][0](reader, tmp_path / out) for out in ("a", "b"))
    assert [path.name for path in one] == [path.name for path in other]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_tars_are_sorted_and_know_no_time_or_owner(tmp_path: Path) -> None:
    rows = [{**row, "frames": [row["bytes"]] * 11} for row in sample_rows(20)]
    for path in export_webdataset(ShardReader(write(tmp_path / "shards", rows)), tmp_path / "out"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        names = [member.name for member in members]
        assert names == sorted(names)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_the_webdataset_library_reads_our_tars(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    rows = sample_rows(20)
    paths = export_webdataset(ShardReader(write(tmp_path / "shards", rows)), tmp_path / "out")
    found = list(wds.WebDataset([str(path) for path in paths], shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in found] == [f"{row:012d}" for row in range(20)]
    for sample, row in zip(found, rows, strict=True):
        expected = Image.open(io.BytesIO(row["bytes"])).convert("RGB")
        assert sample["png"].tobytes() == expected.tobytes()
        assert sample["json"]["image_id"] == row["image_id"]
        assert sample["json"]["cluster"] == row["cluster"]
        assert sample.get("txt") == (row["captions"][0] if row["captions"] else None)


def test_tars_of_others_are_understood(tmp_path: Path) -> None:
    first, second, third = (row["bytes"] for row in sample_rows(3))
    upright = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    photographs()[0].resize((32, 24)).save(upright, "JPEG", exif=exif)
    told = json.dumps({"caption": "from json", "label": 7, "url": "http://example.org/a.jpg"}).encode()
    (tmp_path / "in").mkdir()
    write_tar(
        tmp_path / "in/b.tar",
        {"x/1.jpg": upright.getvalue(), "x/1.txt": "ein Käfer".encode(), "x/1.cls": b"3\n", "x/2.txt": b"no picture"},
    )
    write_tar(tmp_path / "in/a.tar", {"1.left.png": first, "1.right.png": second, "2.json": told, "2.PNG": third})
    reader, skipped = imported(tmp_path / "in", "webdataset", tmp_path / "out")
    assert skipped == {"no image": 1}
    views, json_told, rotated = all_samples(reader)
    assert (views["bytes"], views["frames"]) == (first, [second])
    assert (views["captions"], views["label"], views["orientation"], views["weight"]) == ([], None, 1, 1.0)
    assert (json_told["bytes"], json_told["captions"], json_told["label"]) == (third, ["from json"], "7")
    assert json_told["image_id"] == next(row["image_id"] for row in sample_rows(3) if row["bytes"] == third)
    assert (rotated["captions"], rotated["label"], rotated["orientation"]) == (["ein Käfer"], "3", 6)


def test_parquet_of_hugging_face_is_understood(tmp_path: Path) -> None:
    rows = sample_rows(5)
    images = [{"bytes": row["bytes"], "path": f"{row['row']}.png"} for row in rows[:4]]
    images.append({"bytes": None, "path": "elsewhere.png"})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array([0, 1, None, 9, 0], pa.int64()),
            "text": pa.array(["a", None, "c", "d", "e"]),
            "width": pa.array([1, 2, 3, 4, 5]),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=2)
    reader, skipped = imported(tmp_path / "data.parquet", "parquet", tmp_path / "out")
    assert skipped == {"no image": 1}
    found = all_samples(reader)
    assert [sample["bytes"] for sample in found] == [row["bytes"] for row in rows[:4]]
    assert [sample["image_id"] for sample in found] == [row["image_id"] for row in rows[:4]]
    assert [sample["label"] for sample in found] == ["cat", "dog", None, "9"]
    assert [sample["captions"] for sample in found] == [["a"], [], ["c"], ["d"]]
    assert reader.sampling_column("cluster").null_count == 4


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="holds nothing to import"):
        imported(tmp_path, "webdataset", tmp_path / "out")
    with pytest.raises(ShardError, match="holds nothing to import"):
        imported(tmp_path / "missing.tar", "webdataset", tmp_path / "out")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "words.parquet")
    with pytest.raises(ShardError, match=r"no column of encoded images.*its columns are text"):
        imported(tmp_path / "words.parquet", "parquet", tmp_path / "out")
    pq.write_table(pa.table({"image": [b"a"], "cluster": ["x"]}), tmp_path / "odd.parquet")
    with pytest.raises(ShardError, match="column cluster does not fit"):
        imported(tmp_path / "odd.parquet", "parquet", tmp_path / "out")
    whole = write_tar(tmp_path / "whole.tar", {f"{n}.png": bytes([1]) * 3000 for n in range(9)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"cut\.tar is not a whole tar file"):
        imported(tmp_path / "cut.tar", "webdataset", tmp_path / "out")
    assert not (tmp_path / "out" / "index.json").exists()
    (tmp_path / "text.parquet").write_bytes(b"no parquet")
    with pytest.raises(ShardError, match="is not a whole Parquet file"):
        imported(tmp_path / "text.parquet", "parquet", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_a_pattern_matches_is_read_in_the_order_of_names(tmp_path: Path, suffix: str) -> None:
    rows = sample_rows(3)
    for number in (1, 0, 2):
        path = write_tar(tmp_path / f"part-{number}.tar", {"0.png": rows[number]["bytes"]})
        path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    write_tar(tmp_path / "other.tar", {"0.png": b"x"})
    reader, _ = imported(f"{tmp_path}/part-*{suffix}", "webdataset", tmp_path / "out")
    assert reader.column("image_id").to_pylist() == [row["image_id"] for row in rows]
