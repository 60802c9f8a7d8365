import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest

from stages.artifact import Artifact
from stages.base import StageError
from stages.tables import part_paths, read_table
from tests.stages.crawl.loopback import picture, run_crawl

ALLOW = ["127.0.0.1"]


def _artifact(work, **params):
    return Artifact("fetches", "crawl", work.name, "digest", work, {"params": {"refresh": "", **params}})


def _list(path, urls):
    path.write_text("\n".join(urls) + "\n")
    return [str(path)]


def _crawl(work, urls, earlier=(), **params):
    sources = _list(work.parent / "list.txt", urls)
    shared = {"allow_hosts": ALLOW, "max_failed_share": 1.0, "retries": 0, "part_rows": 8}
    return run_crawl(work, earlier=list(earlier), sources=sources, **{**shared, **params})


def _rows(work):
    return {row["url"]: row for row in read_table(work, "fetches").to_pylist()}


def _asked(web):
    """Requests for pictures since the last call."""
    asked = Counter({path: count for path, count in web.asked.items() if path.endswith(".png")})
    web.asked.clear()
    return asked


def test_added_urls_are_fetched_and_the_old_files_are_shared(web, tmp_path):
    urls = [web.image(f"/{number}.png", number) for number in range(40)]
    _crawl(tmp_path / "a", urls[:30])
    _asked(web)
    result = _crawl(tmp_path / "b", urls, [_artifact(tmp_path / "a")])
    assert set(_asked(web)) == {f"/{number}.png" for number in range(30, 40)}
    assert (result.metrics["reused"], result.metrics["fetched"], result.rows_out) == (30, 10, 40)
    old = {path.stat().st_ino for path in part_paths(tmp_path / "a", "fetches") if "pictures" in path.name}
    new = {path.stat().st_ino for path in part_paths(tmp_path / "b", "fetches")}
    assert len(old) == 4 and old <= new
    again = _crawl(tmp_path / "c", urls[5:], [_artifact(tmp_path / "b"), _artifact(tmp_path / "a")])
    assert not _asked(web) and again.rows_out == 35
    third = {path.stat().st_ino for path in part_paths(tmp_path / "c", "fetches")}
    assert len(old & third) == 3  # the file with URLs that are no longer wanted is not shared
    scratch = {url: row["sha256"] for url, row in _rows(tmp_path / "b").items()}
    assert scratch == {url: row["sha256"] for url, row in _rows(tmp_path / "a").items()} | {
        url: _rows(tmp_path / "b")[url]["sha256"] for url in urls[30:]
    }


def test_retry_tries_the_named_classes_alone(web, tmp_path):
    for path, status in (("/busy.png", 503), ("/gone.png", 404), ("/limit.png", 429)):
        web.routes[path] = (status, {}, b"")
    urls = [web.image("/0.png"), *(f"{web.url}/{name}.png" for name in ("busy", "gone", "limit"))]
    unknown = "http://no-such-name.invalid/a.png"
    _crawl(tmp_path / "a", [*urls, unknown])
    _asked(web)
    kept = _crawl(tmp_path / "b", [*urls, unknown], [_artifact(tmp_path / "a")])
    assert not _asked(web) and kept.metrics["fetched"] == 0
    _crawl(tmp_path / "c", [*urls, unknown], [_artifact(tmp_path / "a")], retry=["http_5xx"])
    assert set(_asked(web)) == {"/busy.png"}
    web.image("/busy.png", 3)
    web.image("/limit.png", 4)
    cured = _crawl(tmp_path / "d", [*urls, unknown], [_artifact(tmp_path / "a")], retry=["transient"])
    assert set(_asked(web)) == {"/busy.png", "/limit.png"} and cured.rows_out == 3
    reasons = {url: row["reason"] for url, row in _rows(tmp_path / "d").items() if row["reason"]}
    assert reasons == {f"{web.url}/gone.png": "http_404", unknown: "dns"}


def test_a_refresh_asks_conditionally_and_keeps_what_is_unchanged(web, tmp_path):
    def conditional(handler):
        tag = '"v1"'
        if handler.headers.get("If-None-Match") == tag:
            handler.send_response(304)
            handler.send_header("ETag", tag)
            handler.end_headers()
            return
        handler.send_response(200)
        handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(picture(7))))
        handler.end_headers()
        handler.wfile.write(picture(7))

    web.routes["/same.png"] = conditional
    urls = [f"{web.url}/same.png", web.image("/new.png", 1)]
    _crawl(tmp_path / "a", urls)
    first = _rows(tmp_path / "a")
    assert first[urls[0]]["etag"] == '"v1"'
    web.image("/new.png", 2)
    _asked(web)
    _crawl(tmp_path / "b", urls, [_artifact(tmp_path / "a")], refresh="today")
    assert set(_asked(web)) == {"/same.png", "/new.png"}
    rows = _rows(tmp_path / "b")
    same, new = (rows[url] for url in urls)
    assert (same["status"], same["reason"], same["http_status"]) == ("ok", "unchanged", 304)
    assert same["bytes"] == picture(7) and same["fetched_at"] > first[urls[0]]["fetched_at"]
    assert (new["status"], new["bytes"], new["reason"]) == ("ok", picture(2), None)
    _crawl(tmp_path / "c", urls, [_artifact(tmp_path / "b", refresh="today")], refresh="today")
    assert not _asked(web)


def test_a_takedown_list_drops_urls_domains_and_hashes(web, tmp_path):
    urls = [web.image(f"/{number}.png", number) for number in range(12)]
    _crawl(tmp_path / "a", urls)
    rows = _rows(tmp_path / "a")
    listing = tmp_path / "takedown.txt"
    listing.write_text(f"# asked for in November\n{urls[2]}  # by mail\n{rows[urls[5]]['sha256']}\nother.example\n")
    _asked(web)
    _crawl(tmp_path / "b", urls, [_artifact(tmp_path / "a")], takedown=str(listing))
    assert not _asked(web)
    dropped = {url: row for url, row in _rows(tmp_path / "b").items() if row["reason"] == "takedown"}
    assert set(dropped) == {urls[2], urls[5]} and all(row["bytes"] is None for row in dropped.values())
    assert dropped[urls[2]]["sha256"] == rows[urls[2]]["sha256"]  # so that copies elsewhere are known
    for part in part_paths(tmp_path / "b", "fetches"):
        assert not {rows[urls[2]]["bytes"], rows[urls[5]]["bytes"]} & set(pq.read_table(part)["bytes"].to_pylist())
    _crawl(tmp_path / "c", urls, takedown=[rows[urls[5]]["sha256"], urls[2].replace("http:", "https:")])
    assert f"/{2}.png" not in web.asked and "/5.png" in web.asked
    assert {url for url, row in _rows(tmp_path / "c").items() if row["reason"] == "takedown"} == {urls[2], urls[5]}
    with pytest.raises(StageError, match="gave no picture"):
        _crawl(tmp_path / "d", urls, takedown=["127.0.0.1"])
    _crawl(tmp_path / "e", urls, [_artifact(tmp_path / "b")])  # no longer on the list
    assert {row["status"] for row in _rows(tmp_path / "e").values()} == {"ok"}


def test_wrong_takedown_lists_say_what_to_do(web, tmp_path):
    (tmp_path / "list").write_text("not a thing!\n")
    with pytest.raises(StageError, match=r"crawl\.takedown: 'not a thing!' is no URL, domain or SHA-256"):
        _crawl(tmp_path / "a", [web.image("/0.png")], takedown=str(tmp_path / "list"))
    with pytest.raises(StageError, match="cannot be read"):
        _crawl(tmp_path / "a", [web.image("/0.png")], takedown=str(tmp_path / "nowhere"))


_CHILD = """
import json, sys
from pathlib import Path
from tests.stages.crawl.loopback import run_crawl
run_crawl(Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""


def test_kill_9_costs_only_the_parts_in_flight(web, tmp_path):
    def slow(handler):
        time.sleep(0.02)
        body = picture(int(handler.path.strip("/").partition(".")[0]))
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    urls = [f"{web.url}/{number}.png" for number in range(200)]
    web.routes |= {f"/{number}.png": slow for number in range(200)}
    params = {"sources": _list(tmp_path / "list.txt", urls), "allow_hosts": ALLOW, "part_rows": 8, "concurrency": 2}
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "work"), json.dumps(params)]
    for _ in range(2):
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        before = len(part_paths(tmp_path / "work", "fetches"))
        while len(part_paths(tmp_path / "work", "fetches")) < before + 6 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    held = {row["url"] for row in read_table(tmp_path / "work", "fetches").to_pylist()}
    assert 0 < len(held) < 200
    asked_before = dict(web.asked)
    run_crawl(tmp_path / "work", **params)
    again = {path for path, count in web.asked.items() if count > asked_before.get(path, 0)}
    assert not again & {url.removeprefix(web.url) for url in held}
    assert len(_rows(tmp_path / "work")) == 200
    assert {row["status"] for row in _rows(tmp_path / "work").values()} == {"ok"}
