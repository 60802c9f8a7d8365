import random
import time

import pytest

from stages.base import Cancelled, StageContext
from stages.crawl import Crawl, CrawlParams
from stages.crawl.lanes import lane_of
from stages.crawl.targets import Target
from stages.in_process import InProcess
from stages.tables import read_table, table_digest
from tests.stages.crawl.loopback import picture, run_crawl

HOSTS = ("127.0.0.1", "localhost")


def _listing(web, folder, count=60):
    """A list over two hosts, with dead links; answers take turns at being slow."""
    generator = random.Random(0)
    for number in range(0, count, 5):
        web.image(f"/{number}.png", number)
    for number in range(count):
        if number % 5:
            body = picture(number)
            delay = generator.random() / 50
            web.routes[f"/{number}.png"] = lambda handler, body=body, delay=delay: _late(handler, body, delay)
    path = folder / "list.txt"
    path.write_text("".join(f"http://{HOSTS[n % 2]}:{web.port}/{n}.png\n" for n in range(count + 4)))
    return str(path)


def _late(handler, body, delay):
    time.sleep(delay)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_the_table_is_the_same_whatever_the_workers_the_parts_and_the_order_of_answers(web, tmp_path):
    listing = _listing(web, tmp_path)
    digests = set()
    for number, (workers, part_rows, concurrency) in enumerate(((1, 512, 64), (2, 7, 3), (3, 16, 1))):
        work = tmp_path / str(number)
        result = run_crawl(
            work,
            sources=[listing],
            allow_hosts=list(HOSTS),
            workers=workers,
            part_rows=part_rows,
            concurrency=concurrency,
        )
        assert (result.rows_in, result.rows_out) == (64, 60)
        digests.add(table_digest(work, "fetches"))
    assert len(digests) == 1


def test_a_host_belongs_to_one_lane():
    targets = [Target("s", f"http://host{n % 50}.org/{n}.png") for n in range(400)]
    lanes = {}
    for target in targets:
        lanes.setdefault(target.url.split("/")[2], set()).add(lane_of(target, 4))
    assert all(len(found) == 1 for found in lanes.values())
    assert {lane for found in lanes.values() for lane in found} == {0, 1, 2, 3}


def test_parts_overlap_so_that_a_slow_answer_holds_up_no_other(web, tmp_path):
    urls = [web.image(f"/{n}.png", n) for n in range(40)]
    web.routes["/slow.png"] = lambda handler: _late(handler, picture(99), 1.0)
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join([web.url + "/slow.png", *urls]))
    moments = []

    def emit(kind, fields):
        if kind == "progress" and fields["unit"] == "files":
            moments.append((time.monotonic(), fields["done"]))

    start = time.monotonic()
    run_crawl(
        tmp_path / "work", emit=emit, sources=[str(listing)], allow_hosts=["127.0.0.1"], part_rows=2, timeout_s=5.0
    )
    assert read_table(tmp_path / "work", "fetches").num_rows == 41
    assert time.monotonic() - start < 20
    assert web.asked["/39.png"] == 1


def test_a_lane_on_a_worker_sees_the_cancel_flag(web, tmp_path):
    listing = _listing(web, tmp_path)
    flag = tmp_path / "cancel"
    params = CrawlParams(sources=[listing], allow_hosts=list(HOSTS), workers=2, concurrency=1)
    work = tmp_path / "work"
    work.mkdir()

    class Flagging(InProcess):
        def map(self, worker, config, tasks, **options):
            flag.touch()
            super().map(worker, config, tasks, **options)

    context = StageContext(params, work, {}, Flagging(), cancel_flag=flag)
    with pytest.raises(Cancelled):
        Crawl(params).run(context)


def test_an_interrupted_crawl_keeps_its_lanes(web, tmp_path):
    listing = _listing(web, tmp_path)

    class Dying(InProcess):
        def map(self, worker, config, tasks, **options):
            super().map(worker, config, tasks[:1], **options)
            raise RuntimeError("pulled the plug")

    work = tmp_path / "work"
    work.mkdir()
    params = CrawlParams(sources=[listing], allow_hosts=list(HOSTS), workers=2, part_rows=8)
    with pytest.raises(RuntimeError):
        Crawl(params).run(StageContext(params, work, {}, Dying()))
    finished = read_table(work, "fetches")["url"].to_pylist()
    assert 0 < len(finished) < 64
    web.asked.clear()
    run_crawl(work, sources=[listing], allow_hosts=list(HOSTS), workers=1)
    assert not {f"/{url.rsplit('/', 1)[1]}" for url in finished} & set(web.asked)
    run_crawl(tmp_path / "whole", sources=[listing], allow_hosts=list(HOSTS))
    assert table_digest(work, "fetches") == table_digest(tmp_path / "whole", "fetches")
