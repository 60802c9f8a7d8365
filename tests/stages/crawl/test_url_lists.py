import base64
import bz2
import gzip
import json
import lzma
import tracemalloc

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.base import StageError
from stages.crawl.reading import Reader
from stages.crawl.sources import UrlListSource
from stages.crawl.targets import TargetWriter
from stages.crawl.url_lists import list_digest, list_targets
from tests.stages.crawl.loopback import picture

ROWS = [
    {"URL": "http://a/1.png", "TEXT": "one", "license": "CC0", "clip": 0.5, "key": None},
    {"URL": "http://a/2.png", "TEXT": None, "license": None, "clip": 0.25, "key": "k"},
    {"URL": None, "TEXT": "no url", "license": None, "clip": None, "key": None},
]


def _targets(path, **fields):
    return list(list_targets(UrlListSource(urls=str(path), **fields), "list"))


def _write(path, rows, format_):
    table = pa.Table.from_pylist(rows)
    if format_ == "parquet":
        pq.write_table(table, path, row_group_size=2)
    elif format_ in ("arrow", "feather"):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    elif format_ == "ipc":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        path.write_bytes(_text(rows, format_).encode())


def _text(rows, format_):
    if format_ == "json":
        return json.dumps(rows, indent=1)
    if format_ in ("jsonl", "ndjson"):
        return "\n".join(json.dumps(row) for row in rows)
    comma = "\t" if format_ == "tsv" else ","
    names = list(rows[0])
    lines = [comma.join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    return "\n".join([comma.join(names), *lines])


@pytest.mark.parametrize("format_", ["csv", "tsv", "json", "jsonl", "ndjson", "parquet", "arrow", "feather", "ipc"])
def test_every_format_gives_the_same_targets(tmp_path, format_):
    path = tmp_path / f"list.{format_}"
    _write(path, ROWS, format_)
    first, second, third = _targets(path, licence="CC-BY", weight=2.0)
    assert (first.url, first.caption, first.licence, first.source_weight) == ("http://a/1.png", "one", "CC0", 2.0)
    assert float(json.loads(first.metadata)["clip"]) == 0.5 and "key" not in first.metadata
    assert (second.caption, second.licence) == (None, "CC-BY") and json.loads(second.metadata)["key"] == "k"
    assert third.outcome == "failed:no_url" and third.caption == "no url" and third.url.startswith("file://")
    assert not any(target.place for target in (first, second, third))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress),
        ("zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format_", ["txt", "csv", "json", "jsonl"])
def test_compressed_lists(tmp_path, suffix, compress, format_):
    text = "http://a/1.png\nhttp://a/2.png\n" if format_ == "txt" else _text(ROWS[:2], format_)
    path = tmp_path / f"list.{format_}.{suffix}"
    path.write_bytes(compress(text.encode()))
    assert [target.url for target in _targets(path)] == ["http://a/1.png", "http://a/2.png"]


def test_plain_lines(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeff# mine\nhttp://a/1.png\n\n  http://a/2.png  \n", encoding="utf-8")
    assert [target.url for target in _targets(tmp_path / "a.txt")] == ["http://a/1.png", "http://a/2.png"]


def test_columns_can_be_named_and_metadata_chosen(tmp_path):
    (tmp_path / "a.csv").write_text('where,words,kind,x,y\nhttp://a/1,"two\nlines",cat,1,2\nhttp://a/2\n')
    columns = {"url": "where", "caption": "words", "label": "kind", "metadata": ["y"]}
    first, second = _targets(tmp_path / "a.csv", columns=columns)
    assert (first.caption, first.label, first.metadata) == ("two lines", "cat", '{"y": "2"}')
    assert (second.url, second.caption, second.metadata) == ("http://a/2", None, None)
    assert _targets(tmp_path / "a.csv", columns={**columns, "metadata": "none"})[0].metadata is None


def _embedded(path, rows=10, as_struct=True, stream=False):
    cells = [picture(number) for number in range(rows)]
    cells[3] = b""
    column = (
        pa.array([{"bytes": cell, "path": f"{n}.png"} for n, cell in enumerate(cells[:-1])] + [None])
        if as_struct
        else pa.array([*cells[:-1], None], pa.binary())
    )
    table = pa.table({"image": column, "label": [number % 2 for number in range(rows)], "url": ["http://o/x"] * rows})
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=4)
    else:
        with pa.OSFile(str(path), "wb") as sink:
            writer = (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema)
            writer.write_table(table, max_chunksize=3)
            writer.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.parquet", {}), ("b.parquet", {"as_struct": False}), ("c.arrow", {"stream": True}), ("d.arrow", {}),
    ],
)  # fmt: skip
def test_pictures_in_tables_are_read_where_they_stand(tmp_path, name, options):
    _embedded(tmp_path / name, **options)
    notes = []
    targets = list(list_targets(UrlListSource(urls=str(tmp_path / name)), "set", notes.append))
    assert "holds pictures in a table (url = url, image = image, label = label)" in notes[0]
    reader = Reader({}, 1_000_000)
    rows = reader.rows(targets)
    backwards = reader.rows(targets[::-1])
    reader.close()
    assert [row["bytes"] for row in rows[:3]] == [picture(n) for n in range(3)]
    assert [row["sha256"] for row in backwards[::-1] if row["status"] == "ok"] == [
        row["sha256"] for row in rows if row["status"] == "ok"
    ]
    assert [row["reason"] for row in rows if row["status"] != "ok"] == ["empty", "no_picture"]
    assert [row["label"] for row in rows[:2]] == ["cat", "dog"] and rows[0]["final_url"] == "http://o/x"
    assert len({row["url"] for row in rows}) == 10 and targets[0].version


@pytest.mark.parametrize("as_struct", [True, False])
def test_masks_in_tables_go_into_the_metadata(tmp_path, as_struct):
    png = b"\x89PNG\r\n\x1a\nmask"
    cells = [{"bytes": png, "path": "m.png"} if as_struct else png, None]
    images = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(2)]
    pq.write_table(pa.table({"photo": images, "mask": cells, "n": [1, 2]}), tmp_path / "a.parquet")
    first, second = _targets(tmp_path / "a.parquet", columns={"image": "photo"})
    assert json.loads(first.metadata) == {"mask": base64.b64encode(png).decode(), "n": 1}
    assert json.loads(second.metadata) == {"n": 2} and first.place
    assert _targets(tmp_path / "a.parquet")[0].place == first.place
    pq.write_table(pa.table({"photo": images, "truth": [b"JPEG", None]}), tmp_path / "b.parquet")
    with pytest.raises(StageError, match=r"column 'truth' .* no PNG"):
        _targets(tmp_path / "b.parquet", columns={"image": "photo", "mask": "truth"})


def test_a_folder_of_tables_and_patterns(tmp_path):
    for number in range(3):
        _write(tmp_path / f"part-{number}.parquet", [{"url": f"http://a/{number}"}], "parquet")
    expected = [f"http://a/{number}" for number in range(3)]
    assert [target.url for target in _targets(f"{tmp_path}/")] == expected
    assert [target.url for target in _targets(f"{tmp_path}/part-*.parquet")] == expected
    assert [target.url for target in _targets(f"{tmp_path}/part-{{0..1}}.parquet")] == expected[:2]


def test_lists_behind_other_file_systems():
    system = fsspec.filesystem("memory")
    with system.open("/lists/a.jsonl.gz", "wb") as file:
        file.write(gzip.compress(b'{"url": "http://a/1"}\n'))
    source = UrlListSource(urls="memory://lists/a.jsonl.gz")
    before = list_digest(source)
    assert [target.url for target in list_targets(source, "list")] == ["http://a/1"]
    with system.open("/lists/a.jsonl.gz", "wb") as file:
        file.write(gzip.compress(b'{"url": "http://a/2"}\n'))
    assert list_digest(source) != before
    system.rm("/lists", recursive=True)


def test_mistakes_say_what_to_do(tmp_path):
    (tmp_path / "a.csv").write_text("where,text\nx,y\n")
    with pytest.raises(StageError, match=r"no column 'url'.*where, text"):
        _targets(tmp_path / "a.csv")
    with pytest.raises(StageError, match=r"no column 'u'.*where, text"):
        _targets(tmp_path / "a.csv", columns={"url": "u"})
    (tmp_path / "a.jsonl").write_text('{"url": "http://a"}\n[1]\n')
    with pytest.raises(StageError, match="line 2 is not a JSON object"):
        _targets(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text('[{"url": "http://a"}, {"url":')
    with pytest.raises(StageError, match="row 2 is not a JSON object"):
        _targets(tmp_path / "a.json")
    (tmp_path / "b.txt").write_bytes(gzip.compress(b"http://a\n" * 50))
    with pytest.raises(StageError, match="UTF-8"):
        _targets(tmp_path / "b.txt")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"url\n" + b"http://a\n" * 50)[:-20])
    with pytest.raises(StageError, match="cannot be read to its end"):
        _targets(tmp_path / "c.csv.gz")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(StageError, match="cannot be read to its end"):
        _targets(tmp_path / "d.parquet")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(StageError, match="is empty"):
        _targets(tmp_path / "empty.csv")
    with pytest.raises(StageError, match="cannot be read"):
        list_digest(UrlListSource(urls=str(tmp_path / "missing.txt")))


def test_memory_does_not_grow_with_the_list(tmp_path):
    """Ten times as many URLs, listed and saved without doubles, take no more memory."""
    peaks = []
    for count in (2_000, 20_000):
        path = tmp_path / f"{count}.txt"
        with path.open("w") as file:
            for number in range(count):
                file.write(f"http://host-{number % 100}.test/pictures/{number // 2}.jpg\n")
        tracemalloc.start()
        with TargetWriter(tmp_path / f"targets-{count}", 512) as writer:
            for target in list_targets(UrlListSource(urls=str(path)), "list"):
                writer.add(target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 1_000_000
