from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from tests.training.samples import sample_rows
from tests.training.shards.arbitrary import write, write_version_1
from tests.training.shards.reading_process import read_in_any_order
from tests.training.shards.web import Web, serving
from training.shards import ShardCache, ShardError, ShardReader, files

ROWS = 60
PER_SHARD, PER_BATCH = 25, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shards"), sample_rows(ROWS), PER_SHARD, PER_BATCH)


@pytest.fixture
def web(folder: Path) -> Iterator[Web]:
    with serving(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WAITS", (0.01, 0.01))


def cache_of(folder: Path, max_bytes: int = 1 << 30) -> ShardCache:
    return ShardCache(folder / "cache", max_bytes)


def cached_bytes(cache: ShardCache) -> int:
    total = 0
    for path in cache.folder.glob("??/[!.]*"):
        with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
            total += path.stat().st_size
    return total


def blocks_in(cache: ShardCache) -> list[Path]:
    return sorted(cache.folder.glob("??/*"))


def read_all(reader: ShardReader, seed: int = 0) -> None:
    rows = sample_rows(ROWS)
    order = list(range(ROWS))
    random.Random(seed).shuffle(order)
    for row in order:
        assert reader.encoded(row) == (rows[row]["bytes"], 1)


def test_rows_over_http_are_fetched_by_record_batch_and_once(tmp_path: Path, web: Web) -> None:
    reader = ShardReader(web.url, cache_of(tmp_path))
    assert reader.sample(30) == sample_rows(ROWS)[30]
    assert len(web.asked()) == 1
    entry = reader.entries[1]
    first, stop = entry.span(1 + (30 - PER_SHARD) // PER_BATCH)
    assert web.asked() == [(entry.name, f"bytes={first}-{stop - 1}")]
    read_all(reader)
    batches = sum(entry.batches for entry in reader.entries)
    assert len(web.asked()) == batches
    read_all(ShardReader(web.url, cache_of(tmp_path)), seed=1)
    assert len(web.asked()) == batches


def test_a_server_without_ranges_sends_each_shard_once(tmp_path: Path, folder: Path) -> None:
    with serving(folder, ranges=False) as web:
        reader = ShardReader(web.url, cache_of(tmp_path))
        read_all(reader)
        assert len(web.asked()) == len(reader.entries) == 3
        assert reader.damaged() == []


def test_columns_of_remote_shards_fetch_no_image(tmp_path: Path, web: Web) -> None:
    reader = ShardReader(web.url, cache_of(tmp_path))
    assert reader.column("cluster").to_pylist() == [row["cluster"] for row in sample_rows(ROWS)]
    assert {name for name, _ in web.asked()} == {"columns.arrow"}


def test_any_file_system_serves(tmp_path: Path, folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/remote-shards/", recursive=True)
    try:
        read_all(ShardReader("memory://remote-shards", cache_of(tmp_path)))
        assert ShardReader("memory://remote-shards", cache_of(tmp_path)).damaged() == []
    finally:
        memory.rm("/remote-shards", recursive=True)
    read_all(ShardReader(folder.as_uri(), cache_of(tmp_path / "unused")))
    assert not (tmp_path / "unused").exists()


def test_the_cache_keeps_its_bound_and_what_was_used_last(tmp_path: Path, folder: Path, web: Web) -> None:
    largest = max(
        stop - first
        for entry in ShardReader(folder).entries
        for first, stop in map(entry.span, range(1, entry.batches + 1))
    )
    cache = cache_of(tmp_path, 5 * largest)
    reader = ShardReader(web.url, cache)
    most = 0
    for row in range(0, ROWS, 2):
        reader.encoded(row)
        most = max(most, cached_bytes(cache))
    assert 3 * largest < most <= 5 * largest
    asked = len(web.asked())
    ShardReader(web.url, cache).encoded(ROWS - 1)
    assert len(web.asked()) == asked
    ShardReader(web.url, cache).encoded(0)
    assert len(web.asked()) == asked + 1


def test_a_cache_too_small_for_a_record_batch_says_so(tmp_path: Path, web: Web) -> None:
    with pytest.raises(ShardError, match="allow a larger cache, or write the shards with fewer rows a batch"):
        ShardReader(web.url, cache_of(tmp_path, 1000)).encoded(0)


def test_spoilt_files_of_the_cache_are_never_used(tmp_path: Path, web: Web) -> None:
    cache = cache_of(tmp_path)
    read_all(ShardReader(web.url, cache))
    halved, flipped, empty, *_ = blocks_in(cache)
    halved.write_bytes(halved.read_bytes()[:100])
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"\x07")
    empty.write_bytes(b"")
    asked = len(web.asked())
    read_all(ShardReader(web.url, cache_of(tmp_path)))
    assert len(web.asked()) == asked + 3


def test_a_transfer_that_was_spoilt_is_made_again(tmp_path: Path, web: Web) -> None:
    left = {"flip": 2}

    def spoil(name: str, data: bytes) -> bytes:
        if name.endswith(".arrow") and left["flip"]:
            left["flip"] -= 1
            return data[:50] + bytes([data[50] ^ 1]) + data[51:] if left["flip"] else data[:-7]
        return data

    web.spoil = spoil
    assert ShardReader(web.url, cache_of(tmp_path)).sample(3) == sample_rows(ROWS)[3]
    assert len(web.asked()) == 3


def test_damage_at_the_source_is_an_error_and_enters_no_cache(tmp_path: Path, web: Web) -> None:
    web.spoil = lambda name, data: data[:50] + bytes([data[50] ^ 1]) + data[51:] if ".arrow" in name else data
    cache = cache_of(tmp_path)
    with pytest.raises(ShardError, match=r"record batch 0 is damaged at its source; `curatrain shard verify http"):
        ShardReader(web.url, cache).encoded(0)
    assert blocks_in(cache) == []


def test_unreachable_shards_say_why(tmp_path: Path, web: Web, folder: Path) -> None:
    with pytest.raises(ShardError, match="does not exist"):
        ShardReader(f"{web.url}/nowhere", cache_of(tmp_path))
    with pytest.raises(ShardError, match="cannot be opened"):
        ShardReader("nosuch://bucket/shards", cache_of(tmp_path))
    reader = ShardReader(web.url, cache_of(tmp_path))
    web.spoil = lambda name, data: b""
    with pytest.raises(ShardError, match="damaged"):
        reader.encoded(0)
    old = write_version_1(tmp_path / "old", [{**row, "caption": None} for row in sample_rows(4)], 4)
    with serving(old) as other, pytest.raises(ShardError, match="version 1 can only be read from a local folder"):
        ShardReader(other.url, cache_of(tmp_path))


def test_damage_is_found_at_the_source_past_the_cache(tmp_path: Path, web: Web) -> None:
    reader = ShardReader(web.url, cache_of(tmp_path))
    read_all(reader)
    entry = reader.entries[2]
    where = entry.offsets[2] + 9

    def spoil(name: str, data: bytes) -> bytes:
        return data[:where] + bytes([data[where] ^ 8]) + data[where + 1 :] if name == entry.name else data

    web.spoil = spoil
    assert [(d.name, d.first, d.stop) for d in reader.damage()] == [(entry.name, 54, 58)]


def test_what_will_be_read_is_fetched_ahead_in_few_requests(tmp_path: Path, web: Web) -> None:
    cache = cache_of(tmp_path)
    reader = ShardReader(web.url, cache)
    reader.prefetch(range(40))
    wanted = 7 + 4
    until = time.monotonic() + 20
    while len(blocks_in(cache)) < wanted and time.monotonic() < until:
        time.sleep(0.01)
    assert len(web.asked()) == 2  # one range of each of the two shards
    reader.prefetch(range(40))
    for row in range(40):
        reader.encoded(row)
    assert len(web.asked()) == 2


def test_prefetch_leaves_half_of_the_cache_alone(tmp_path: Path, web: Web, folder: Path) -> None:
    total = sum(entry.bytes for entry in ShardReader(folder).entries)
    cache = cache_of(tmp_path, total)
    reader = ShardReader(web.url, cache)
    reader.prefetch(range(ROWS))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and cached_bytes(cache) < 0.4 * total:
        time.sleep(0.01)
    time.sleep(0.2)
    assert 0.4 * total < cached_bytes(cache) <= total // 2


def test_what_cannot_be_fetched_ahead_is_told_when_it_is_read(tmp_path: Path, web: Web) -> None:
    reader = ShardReader(web.url, cache_of(tmp_path))
    web.spoil = lambda name, data: data[:-1]
    reader.prefetch(range(ROWS))
    with pytest.raises(ShardError, match="damaged at its source"):
        reader.encoded(0)
    web.spoil = lambda name, data: data
    read_all(reader)


def test_threads_fetch_each_record_batch_once(tmp_path: Path, web: Web) -> None:
    reader = ShardReader(web.url, cache_of(tmp_path))
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda seed: read_all(reader, seed), range(6)))
    assert len(web.asked()) == sum(entry.batches for entry in reader.entries)


def test_processes_share_a_cache_that_holds_everything(tmp_path: Path, web: Web) -> None:
    _run_processes(tmp_path, web, 1 << 30)
    assert len(web.asked()) == sum(entry.batches for entry in ShardReader(web.url, cache_of(tmp_path)).entries)


def test_processes_share_a_cache_that_holds_little(tmp_path: Path, web: Web, folder: Path) -> None:
    total = sum(entry.bytes for entry in ShardReader(folder).entries)
    _run_processes(tmp_path, web, total // 3)
    assert cached_bytes(cache_of(tmp_path)) <= total // 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def _run_processes(tmp_path: Path, web: Web, max_bytes: int) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=read_in_any_order, args=(web.url, tmp_path / "cache", max_bytes, seed))
        for seed in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_the_default_cache_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ShardCache().folder == tmp_path / "curatrain" / "shards"


def test_shards_in_s3(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("bucket")
        for path in folder.iterdir():
            s3.put_file(str(path), f"bucket/shards/{path.name}")
        reader = ShardReader("s3://bucket/shards", cache_of(tmp_path))
        read_all(reader)
        assert reader.damaged() == []
    finally:
        server.stop()
