import asyncio
import csv
import os

import pyarrow.compute as pc
import pytest

from stages.base import Cancelled, StageError
from stages.crawl import Crawl, CrawlParams
from stages.tables import read_table
from tests.stages.crawl.loopback import artifact, picture, run_crawl

ALLOW = ["127.0.0.1"]


def _rows(work):
    return read_table(work, "fetches").to_pylist()


def _site(web, pictures=6):
    """An index that links to two pages, one dead page and another host; pictures in two classes."""
    links = "".join(f'<a href="/{name}.html">x</a>' for name in ("cats", "dogs", "gone"))
    web.routes["/"] = (200, {"Content-Type": "text/html"}, f'{links}<a href="http://other.test/">y</a>'.encode())
    for name, first in (("cats", 0), ("dogs", pictures)):
        images = "".join(f'<img src="/{name}/{number}.png" alt="{name} {number}">' for number in range(pictures))
        page = f'<div data-class="{name}">{images}<img src="/{name}/dead.png"></div><a href="/">home</a>'
        web.routes[f"/{name}.html"] = (200, {"Content-Type": "text/html"}, page.encode())
        for number in range(pictures):
            web.image(f"/{name}/{number}.png", first + number)
    return {"pages": web.url + "/", "label_attribute": "data-class", "name": "zoo"}


def test_pages_give_one_row_for_whatever_was_tried(web, tmp_path):
    result = run_crawl(tmp_path, sources=[_site(web)], allow_hosts=ALLOW)
    rows = {row["url"].removeprefix(web.url): row for row in _rows(tmp_path)}
    assert len(rows) == 12 + 2 + 3 + 1 == result.rows_in
    cat = rows["/cats/3.png"]
    assert (cat["status"], cat["caption"], cat["label"], cat["bytes"]) == ("ok", "cats 3", "cats", picture(3))
    assert cat["page_url"] == web.url + "/cats.html" and cat["mime"] == "image/png"
    assert rows["/dogs/dead.png"]["reason"] == "http_404"
    assert rows["/gone.html"]["status"] == "failed" and rows["/"]["reason"] == "page"
    assert result.rows_out == 12 and result.metrics["failed"] == 3 and result.digest is None
    assert max(web.asked.values()) == 1


def test_depth_and_page_limit(web, tmp_path):
    source = _site(web)
    assert run_crawl(tmp_path / "a", sources=[{**source, "max_pages": 2}], allow_hosts=ALLOW).rows_out == 6
    with pytest.raises(StageError, match="no picture"):
        run_crawl(tmp_path / "b", sources=[{**source, "depth": 0}], allow_hosts=ALLOW)


def test_a_private_first_page_names_the_setting(web, tmp_path):
    with pytest.raises(StageError, match=r"crawl\.allow_hosts"):
        run_crawl(tmp_path, sources=[web.url + "/"])
    assert not web.asked


def _content(work):
    table = read_table(work, "fetches").drop_columns(["started_at", "fetched_at"])
    return table.take(pc.sort_indices(table, [("source", "ascending"), ("url", "ascending")])).to_pylist()


def test_a_cancelled_crawl_stops(web, tmp_path, monkeypatch):
    def cancel(kind, fields):
        raise Cancelled

    with pytest.raises(Cancelled):
        run_crawl(tmp_path, emit=cancel, sources=[_site(web)], allow_hosts=ALLOW)
    assert not list((tmp_path / "fetches").glob("*")) if (tmp_path / "fetches").exists() else True


def _pictures(web):
    """What was asked for, but for the rules of the site."""
    return {path for path in web.asked if path.endswith(".png")}


def test_a_grown_list_fetches_only_what_is_new(web, tmp_path):
    urls = [web.image(f"/{number}.png", number) for number in range(30)] + [web.url + "/dead.png"]
    listing = tmp_path / "list.csv"
    listing.write_text("url,label\n" + "".join(f"{url},old\n" for url in urls[3:]))
    run_crawl(tmp_path / "a", sources=[str(listing)], allow_hosts=ALLOW, part_rows=7)
    web.asked.clear()
    listing.write_text("url,label\n" + "".join(f"{url},new\n" for url in urls))
    grown = run_crawl(
        tmp_path / "b", earlier=[artifact(tmp_path / "a")], sources=[str(listing)], allow_hosts=ALLOW, part_rows=9
    )
    assert _pictures(web) == {"/0.png", "/1.png", "/2.png"}
    assert (grown.metrics["reused"], grown.metrics["fetched"]) == (28, 3)
    run_crawl(tmp_path / "c", sources=[str(listing)], allow_hosts=ALLOW)
    assert _content(tmp_path / "b") == _content(tmp_path / "c")
    assert {row["label"] for row in _rows(tmp_path / "b")} == {"new"}


def test_a_folder_loses_nothing_and_reads_changed_files_again(tmp_path):
    root = tmp_path / "pics"
    (root / "red").mkdir(parents=True)
    (root / "red" / "no-suffix").write_bytes(picture(1, format_="JPEG"))
    (root / "red" / "lies.jpg").write_bytes(picture(2))
    (root / "red" / "lies.txt").write_text("A drawing\n")
    (root / "song.ogg").write_bytes(b"OggS" + bytes(100))
    (root / "draw.svg").write_text("<svg/>")
    (root / "empty.png").write_bytes(b"")
    (root / "huge.png").write_bytes(picture(3) + bytes(9000))
    (root / "loop").symlink_to(root)
    result = run_crawl(tmp_path / "a", sources=[str(root)], max_bytes=5000)
    reasons = {row["url"].rsplit("/", 1)[1]: (row["status"], row["reason"]) for row in _rows(tmp_path / "a")}
    assert reasons == {
        "no-suffix": ("ok", None), "lies.jpg": ("ok", None), "lies.txt": ("skipped", "not_image"),
        "song.ogg": ("skipped", "not_image"), "draw.svg": ("skipped", "not_image"), "empty.png": ("skipped", "empty"),
        "huge.png": ("failed", "too_large"),
    }  # fmt: skip
    rows = {row["url"].rsplit("/", 1)[1]: row for row in _rows(tmp_path / "a")}
    assert (rows["lies.jpg"]["mime"], rows["lies.jpg"]["caption"], rows["lies.jpg"]["label"]) == (
        "image/png", "A drawing", "red",
    )  # fmt: skip
    (root / "red" / "lies.jpg").write_bytes(picture(4))
    os.utime(root / "red" / "lies.jpg", ns=(5, 5))
    second = run_crawl(tmp_path / "b", earlier=[artifact(tmp_path / "a")], sources=[str(root)], max_bytes=5000)
    assert (result.metrics["reused"], second.metrics["reused"], second.metrics["fetched"]) == (0, 6, 1)
    changed = next(row for row in _rows(tmp_path / "b") if row["url"].endswith("lies.jpg"))
    assert changed["bytes"] == picture(4)


def test_too_many_failures_stop_the_stage_and_a_retry_can_cure_them(web, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{web.url}/{number}.png\n" for number in range(10)))
    for number in range(10):
        web.routes[f"/{number}.png"] = (503, {}, b"")
    web.image("/0.png")
    crawl = {"sources": [str(listing)], "allow_hosts": ALLOW, "retries": 0, "max_failed_share": 0.5}
    with pytest.raises(StageError, match=r"90% of the fetches failed.*9 http_503"):
        run_crawl(tmp_path / "work", **crawl)
    for number in range(10):
        web.image(f"/{number}.png", number)
    assert run_crawl(tmp_path / "work", **crawl).rows_out == 10


def test_externals_name_what_changed(tmp_path):
    (tmp_path / "pics").mkdir()
    listing = tmp_path / "list.txt"
    listing.write_text("http://a/1.png\n")
    crawl = Crawl(CrawlParams(sources=[str(tmp_path / "pics"), str(listing), "http://example.org/"]))
    before = crawl.externals()
    assert set(before) == {"pics", "list"}
    (tmp_path / "pics" / "new.png").write_bytes(picture(1))
    after = crawl.externals()
    assert before["pics"] != after["pics"] and before["list"] == after["list"]
    with pytest.raises(StageError, match="does not exist"):
        Crawl(CrawlParams(sources=[str(tmp_path / "nowhere")])).externals()


def test_the_report_counts_every_row(web, tmp_path):
    run_crawl(tmp_path, sources=[_site(web)], allow_hosts=ALLOW)
    with (tmp_path / "report" / "reasons.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["count"]) for row in rows) == 18
    missing = next(row for row in rows if row["reason"] == "http_404")
    assert (missing["source"], missing["status"], missing["count"]) == ("zoo", "failed", "3") and missing["meaning"]
    with (tmp_path / "report" / "throughput.csv").open() as file:
        assert sum(int(row["pictures"]) for row in csv.DictReader(file)) == 12
    with (tmp_path / "report" / "hosts.csv").open() as file:
        assert [row["ok"] for row in csv.DictReader(file)] == ["12"]
    assert (tmp_path / "report" / "pictures.png").stat().st_size > 1000


def test_a_caller_with_an_event_loop_can_crawl_too(web, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(web.image("/a.png") + "\n")

    async def cell():
        return run_crawl(tmp_path / "work", sources=[str(listing)], allow_hosts=ALLOW)

    assert asyncio.run(cell()).rows_out == 1


def test_a_walk_that_was_broken_off_does_not_ask_for_its_pages_again(web, tmp_path):
    source = _site(web)

    def stop(kind, fields):
        if kind == "progress" and fields["unit"] == "pages":
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        run_crawl(tmp_path, emit=stop, sources=[source], allow_hosts=ALLOW)
    assert web.asked["/"] == 1 and "/cats/1.png" not in web.asked
    assert run_crawl(tmp_path, sources=[source], allow_hosts=ALLOW).rows_out == 12
    assert {web.asked[path] for path in ("/", "/cats.html", "/dogs.html")} == {1}
