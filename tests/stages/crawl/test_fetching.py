import asyncio
import gzip
import socket

import httpcore
import pytest

from stages.crawl import network
from stages.crawl.fetching import Fetched, Fetcher
from stages.crawl.network import CheckedBackend
from tests.stages.crawl.loopback import picture, trickle


def _fetch(*urls, allow=("127.0.0.1",), connect_to=None, timeout_s=2.0, max_bytes=100_000, retries=0):
    async def run() -> list[Fetched]:
        backend = CheckedBackend(allow, connect_to)
        async with Fetcher(
            backend, timeout_s=timeout_s, max_bytes=max_bytes, concurrency=4, user_agent="test", retries=retries
        ) as fetcher:
            return [await fetcher.image(url) for url in urls]

    fetched = asyncio.run(run())
    return fetched[0] if len(urls) == 1 else fetched


def test_an_image_comes_with_its_bytes(web):
    fetched = _fetch(web.image("/a.png", 3))
    assert fetched == Fetched(web.url + "/a.png", picture(3), None, 200, "image/png")


def test_redirects_are_followed_to_a_limit(web):
    web.image("/end.png")
    web.redirect("/1", "/2")
    web.redirect("/2", web.url + "/end.png")
    web.redirect("/loop", "/loop")
    through, loop = _fetch(web.url + "/1", web.url + "/loop")
    assert through.reason is None and through.final_url == web.url + "/end.png"
    assert loop.reason == "too_many_redirects" and web.asked["/loop"] == 6


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/a",
        "http://localhost:{}/a",
        "http://2130706433:{}/a",
        "http://0x7f.1:{}/a",
        "http://[::1]:{}/a",
    ],
)
def test_private_addresses_are_refused_whatever_their_spelling(web, url):
    web.image("/a")
    fetched = _fetch(url.format(web.port), allow=())
    assert fetched.reason in ("private_address", "invalid_url", "dns") and not web.asked


def test_a_redirect_to_a_private_address_is_refused(web):
    web.image("/secret")
    web.redirect("/open", f"http://localhost:{web.port}/secret")
    fetched = _fetch(f"http://door.test:{web.port}/open", allow=(), connect_to={"door.test": ("127.0.0.1", web.port)})
    assert fetched.reason == "private_address" and web.asked == {"/open": 1}


def test_a_name_that_changes_its_address_is_connected_where_it_was_checked(monkeypatch):
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    connected = []

    def resolve(host, port, *args, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    async def connect(address, port):
        connected.append(address)
        raise httpcore.ConnectError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(network, "_connect", connect)
    first, second = _fetch("http://rebind.test/a", "http://rebind.test/a", allow=())
    assert connected == ["93.184.216.34"]
    assert (first.reason, second.reason) == ("connect", "private_address")


def test_of_mixed_addresses_only_the_public_ones_are_tried(monkeypatch):
    connected = []

    async def connect(address, port):
        connected.append(address)
        raise httpcore.ConnectError("no network in tests")

    mixed = [(2, 1, 6, "", (address, 80)) for address in ("10.0.0.1", "8.8.8.8", "169.254.169.254")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: mixed)
    monkeypatch.setattr(network, "_connect", connect)
    assert _fetch("http://mixed.test/a", allow=()).reason == "connect"
    assert connected == ["8.8.8.8"]


def test_the_byte_cap_holds_with_and_without_a_declared_length(web):
    web.routes["/declared"] = (200, {}, picture(1) + bytes(200_000))

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + picture(1))
        try:
            for _ in range(1000):
                handler.wfile.write(bytes(100_000))
        except OSError:
            pass

    web.routes["/endless"] = endless
    declared, open_ended = _fetch(web.url + "/declared", web.url + "/endless")
    assert declared.reason == open_ended.reason == "too_large"


def test_compressed_bodies_are_inflated_within_the_cap(web):
    web.routes["/good"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(picture(2)))
    web.routes["/bomb"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(picture(2) + bytes(50_000_000)))
    web.routes["/odd"] = (200, {"Content-Encoding": "br"}, b"x" * 50)
    good, bomb, odd = _fetch(web.url + "/good", web.url + "/bomb", web.url + "/odd")
    assert good.body == picture(2)
    assert (bomb.reason, odd.reason) == ("too_large", "content_encoding")


def test_a_slow_body_ends_at_the_time_limit(web):
    web.routes["/slow"] = trickle
    web.routes["/head"] = (200, {}, b"")
    assert _fetch(web.url + "/slow", timeout_s=0.5).reason in ("timeout", "not_image")
    web.routes["/silent"] = lambda handler: __import__("time").sleep(1.5)
    assert _fetch(web.url + "/silent", timeout_s=0.3).reason == "timeout"


def test_what_fails_has_a_reason(web):
    web.routes["/page"] = (200, {"Content-Type": "image/png"}, b"<html>" + b" " * 90_000)
    web.routes["/svg"] = (200, {"Content-Type": "image/svg+xml"}, b"<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    web.routes["/empty"] = (200, {}, b"")
    web.routes["/short"] = (200, {"Content-Length": "9999", "Connection": "close"}, picture(1))
    web.routes["/file"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    expected = {
        web.url + "/page": "not_image",
        web.url + "/svg": "not_image",
        web.url + "/empty": "empty",
        web.url + "/short": "incomplete",
        web.url + "/missing": "http_404",
        web.url + "/file": "invalid_url",
        f"http://127.0.0.1:{port}/": "connect",
        "ftp://127.0.0.1/": "invalid_url",
        "http://127.0.0.1:99999/": "invalid_url",
    }
    fetched = _fetch(*expected)
    assert dict(zip(expected, (one.reason for one in fetched), strict=True)) == expected


def test_an_unknown_name_is_no_address():
    assert _fetch("http://no-such-name.invalid/a").reason == "dns"


def test_server_errors_are_tried_again_and_dead_links_are_not(web):
    web.routes["/busy"] = (503, {}, b"")
    busy, dead = _fetch(web.url + "/busy", web.url + "/dead", retries=2)
    assert (busy.reason, dead.reason) == ("http_503", "http_404")
    assert (web.asked["/busy"], web.asked["/dead"]) == (3, 1)
