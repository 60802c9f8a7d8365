import asyncio
import gzip
import time

import pytest

from stages.base import StageError
from stages.crawl.fetching import Conduct, Fetcher
from stages.crawl.hosts import Pace, Patience
from stages.crawl.network import Network
from stages.crawl.outage import OutagePatience
from tests.stages.crawl.loopback import Web, picture

QUICK = Conduct(robots=False, tdm=False, max_bytes=100_000, patience=Patience(backoff_s=0.01, longest_backoff_s=0.02))


def _run(work, conduct=QUICK, allow=("127.0.0.1",), connect_to=None, timeout_s=2.0):
    async def run():
        async with Fetcher(Network(allow, connect_to, timeout_s=timeout_s), conduct) as fetcher:
            return await work(fetcher)

    return asyncio.run(run())


def _fetch(*urls, **options):
    async def work(fetcher):
        return [await fetcher.image(url) for url in urls]

    fetched = _run(work, **options)
    return fetched[0] if len(urls) == 1 else fetched


def test_an_image_comes_with_its_bytes_and_what_the_server_says_of_it(web):
    headers = {"Content-Type": "image/PNG; x=y", "ETag": '"7"', "Last-Modified": "Thu, 01 Jan 2026 11:00:00 GMT"}
    web.routes["/a.png"] = (200, headers, picture(3))
    fetched = _fetch(web.url + "/a.png", conduct=Conduct())
    assert (fetched.body, fetched.reason, fetched.http_status, fetched.mime) == (picture(3), None, 200, "image/png")
    assert (fetched.etag, fetched.last_modified) == ('"7"', headers["Last-Modified"])
    assert (fetched.robots, fetched.attempts, fetched.final_url) == ("allowed: no robots.txt", 1, web.url + "/a.png")


def test_a_conditional_request_may_find_nothing_new(web):
    seen = []

    def answer(handler):
        seen.append(handler.headers["If-None-Match"])
        handler.wfile.write(b'HTTP/1.1 304 Not Modified\r\nETag: "7"\r\n\r\n')

    web.routes["/a.png"] = answer

    async def work(fetcher):
        return await fetcher.image(web.url + "/a.png", {"If-None-Match": '"7"'})

    assert (_run(work).reason, seen) == ("unchanged", ['"7"'])


def test_redirects_are_followed_and_counted(web):
    web.image("/end.png")
    web.redirect("/1", "/2")
    web.redirect("/2", web.url + "/end.png#part")
    web.redirect("/loop", "/loop")
    through, loop = _fetch(web.url + "/1", web.url + "/loop")
    assert through.reason is None and through.final_url == web.url + "/end.png" and through.attempts == 3
    assert loop.reason == "too_many_redirects" and web.asked["/loop"] == 6


def test_compressed_bodies_are_inflated(web):
    web.routes["/good"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(picture(2)))
    assert _fetch(web.url + "/good").body == picture(2)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://127.0.0.1:99999/", "line-3", "http://", "//x/y"])
def test_what_is_no_web_address(url):
    assert _fetch(url).reason == "invalid_url"


def test_server_errors_are_tried_again_and_dead_links_are_not(web):
    web.routes["/busy"] = (503, {}, b"")
    busy, dead = _fetch(web.url + "/busy", web.url + "/dead")
    assert (busy.reason, busy.attempts, dead.reason, dead.attempts) == ("http_503", 3, "http_404", 1)
    assert (web.asked["/busy"], web.asked["/dead"]) == (3, 1)


def test_a_wait_that_is_too_long_is_not_waited_for(web):
    web.routes["/later"] = (429, {"Retry-After": "86400"}, b"")
    assert _fetch(web.url + "/later").reason == "http_429"
    assert web.asked["/later"] == 1


def test_a_page_that_opts_out_is_no_page(web):
    html = b'<meta name=robots content="noai"><img src=/a.png>'
    web.routes["/page"] = (200, {"Content-Type": "text/html; charset=utf-8"}, html)

    async def work(fetcher):
        return await fetcher.any(web.url + "/page")

    fetched = _run(work)
    assert (fetched.reason, fetched.robots, fetched.body) == ("opted_out", "meta robots: noai", b"")
    assert _run(work, Conduct(opt_outs=frozenset())).body == html


def _three_hosts(web):
    names = [f"host{n}.test" for n in range(3)]
    return [f"http://{name}:{web.port}" for name in names], dict.fromkeys(names, ("127.0.0.1", web.port))


OUTAGE = OutagePatience(settle_s=0.05, longest_s=5.0, probe_s=0.2, first_pause_s=0.1, longest_pause_s=0.1)


def test_a_network_outage_is_waited_for_and_no_url_is_called_dead():
    web = Web()
    hosts, connect_to = _three_hosts(web)
    for n in range(40):
        web.image(f"/{n}.png", n)
    conduct = Conduct(robots=False, tdm=False, retries=0, outage=OUTAGE)

    async def work(fetcher):
        before = [await fetcher.image(f"{host}/0.png") for host in hosts]
        web.close()
        urls = [f"{hosts[n % 3]}/{n}.png" for n in range(40)]
        waiting = asyncio.gather(*(fetcher.image(url) for url in urls))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        again = Web(port=web.port)
        again.routes = web.routes
        try:
            return before, await waiting
        finally:
            again.close()

    before, after = _run(work, conduct, connect_to=connect_to)
    assert [one.reason for one in (*before, *after)] == [None] * 43


def test_an_outage_that_lasts_stops_the_crawl_with_what_to_do():
    web = Web()
    hosts, connect_to = _three_hosts(web)
    web.image("/0.png")
    conduct = Conduct(robots=False, tdm=False, retries=0, outage=OutagePatience(0.05, 32, 0.3, 0.2, 0.1, 0.1))

    async def work(fetcher):
        for host in hosts:
            await fetcher.image(f"{host}/0.png")
        web.close()
        await fetcher.image(f"{web.url}/0.png")

    with pytest.raises(StageError, match=r"network seems down.*submit again"):
        _run(work, conduct, connect_to=connect_to)


def test_a_dead_host_among_living_ones_is_called_dead(web):
    hosts, connect_to = _three_hosts(web)
    web.image("/0.png")
    conduct = Conduct(robots=False, tdm=False, retries=0, outage=OUTAGE)

    async def work(fetcher):
        for host in hosts:
            await fetcher.image(f"{host}/0.png")
        return await fetcher.image("http://127.0.0.1:1/a.png")

    assert _run(work, conduct, connect_to=connect_to).reason == "connect"


def test_a_slow_host_keeps_no_place_from_the_others(web):
    web.routes["/slow"] = lambda handler: time.sleep(4.0)
    urls = [web.image(f"/{n}.png", n) for n in range(30)]
    slow = [f"http://slow.test:{web.port}/slow" for _ in range(4)]
    conduct = Conduct(robots=False, tdm=False, retries=0, concurrency=4)

    async def work(fetcher):
        start = time.monotonic()
        waiting = [fetcher.submit(url) for url in slow]
        await asyncio.gather(*(fetcher.submit(url) for url in urls))
        quick = time.monotonic() - start
        await asyncio.gather(*waiting)
        return quick

    quick = _run(work, conduct, connect_to={"slow.test": ("127.0.0.1", web.port)}, timeout_s=3.9)
    assert quick < 3.5  # the slow ones gave their places up after two seconds


def test_a_host_is_asked_no_more_often_than_its_pace_allows(web):
    moments, running, most = [], [0], [0]

    def answer(handler):
        moments.append(time.monotonic())
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + picture(1)[:99])

    web.routes.update({f"/{n}": answer for n in range(12)})
    conduct = Conduct(robots=False, tdm=False, pace=Pace(width=2, rate=20.0))

    async def work(fetcher):
        fetcher._network.trusts = lambda host: False
        fetcher._network.session = lambda host: fetcher._network._trusted_session
        return await asyncio.gather(*(fetcher.submit(f"{web.url}/{n}") for n in range(12)))

    assert all(one.reason is None for one in _run(work, conduct))
    assert most[0] <= 2 and max(moments) - min(moments) > 0.45
