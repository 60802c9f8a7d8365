"""A site on loopback that does to a crawler what the web does: each path goes wrong in its own way."""

from __future__ import annotations

import gzip
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

from tests.stages.crawl.loopback import Web, picture

Handler = BaseHTTPRequestHandler
HEAD = b"HTTP/1.1 200 OK\r\n"


def lay_out(web: Web) -> dict[str, tuple[str | None, ...]]:
    """Fill the routes of a site; gives the reasons that each path may end with (None: the picture comes)."""
    for path, answer in _ANSWERS.items():
        web.routes[path] = answer
    for number in range(7):
        web.redirect(f"/far/{number}", f"/far/{number + 1}")
    web.image("/ok.png")
    web.redirect("/round", "/and-round")
    web.redirect("/and-round", "/round")
    web.redirect("/to-loopback", f"http://127.0.0.1:{web.port}/ok.png")
    web.redirect("/to-metadata", "http://169.254.169.254/latest/meta-data/")
    web.redirect("/to-mapped", f"http://[::ffff:127.0.0.1]:{web.port}/ok.png")
    web.redirect("/to-octal", f"http://0177.0.0.1:{web.port}/ok.png")
    web.redirect("/to-decimal", f"http://2130706433:{web.port}/ok.png")
    web.redirect("/to-file", "file:///etc/passwd")
    web.redirect("/to-nonsense", "http://[:::/")
    web.routes["/busy-for-seconds"] = _Busy("1")
    web.routes["/busy-until-date"] = _Busy("date")
    web.routes["/flaky"] = _Flaky()
    return _EXPECTED


class _Busy:
    """429 with Retry-After at first, a picture afterwards."""

    def __init__(self, wait: str) -> None:
        self._wait = wait
        self._first = 0.0

    def __call__(self, handler: Handler) -> None:
        now = time.monotonic()
        if not self._first:
            self._first = now
            wait = formatdate(time.time() + 1, usegmt=True) if self._wait == "date" else self._wait
            handler.wfile.write(
                b"HTTP/1.1 429 Slow\r\nRetry-After: " + wait.encode() + b"\r\nContent-Length: 0\r\n\r\n"
            )
        else:
            early = self._wait != "date" and now - self._first < 0.9
            _send(handler, b"HTTP/1.1 500 Early\r\nContent-Length: 0\r\n\r\n" if early else _whole(picture(5)))


class _Flaky:
    """Ends the connection without a word, twice; a picture at the third time."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self, handler: Handler) -> None:
        self._asked += 1
        if self._asked > 2:
            _send(handler, _whole(picture(6)))


def _whole(body: bytes, *headers: bytes) -> bytes:
    return HEAD + b"".join(h + b"\r\n" for h in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _send(handler: Handler, data: bytes) -> None:
    try:
        handler.wfile.write(data)
        handler.wfile.flush()
    except OSError:
        pass


def _drip(handler: Handler, start: bytes, drop: bytes) -> None:
    """A little now and then, for ever as far as a test is concerned."""
    _send(handler, start)
    for _ in range(60):
        try:
            handler.wfile.write(drop)
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


def _slow_head(handler: Handler) -> None:
    _drip(handler, HEAD, b"X-More: y\r\n")


def _slow_body(handler: Handler) -> None:
    _drip(handler, HEAD + b"Content-Length: 90000\r\n\r\n" + picture(1), b"\0")


def _silent(handler: Handler) -> None:
    del handler
    time.sleep(2.5)


def _endless(handler: Handler) -> None:
    try:
        handler.wfile.write(HEAD + b"Connection: close\r\n\r\n" + picture(1))
        for _ in range(100):
            handler.wfile.write(bytes(100_000))
    except OSError:
        pass


def _endless_head(handler: Handler) -> None:
    try:
        handler.wfile.write(HEAD)
        for number in range(5000):
            handler.wfile.write(b"X-%d: %s\r\n" % (number, b"a" * 1000))
    except OSError:
        pass


def _bomb(encoding: bytes) -> bytes:
    import zlib

    plain = picture(2) + bytes(60_000_000)
    packed = gzip.compress(plain, 9) if encoding == b"gzip" else zlib.compress(plain, 9)
    return _whole(packed, b"Content-Encoding: " + encoding)


_RAW = {
    "/gzip-bomb": _bomb(b"gzip"),
    "/deflate-bomb": _bomb(b"deflate"),
    "/brotli": _whole(bytes(80), b"Content-Encoding: br"),
    "/zstd": _whole(bytes(80), b"Content-Encoding: zstd"),
    "/no-gzip": _whole(b"\x1f\x8b" + bytes(60), b"Content-Encoding: gzip"),
    "/long-line": HEAD + b"X: " + b"a" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "/too-short": HEAD + b"Content-Length: 99999\r\n\r\n" + picture(1),
    "/too-long": HEAD + b"Content-Length: 40\r\n\r\n" + picture(1),
    "/two-lengths": HEAD + b"Content-Length: 4\r\nContent-Length: 900\r\n\r\n" + picture(1),
    "/no-number": HEAD + b"Content-Length: many\r\n\r\n" + picture(1),
    "/huge-length": HEAD + b"Content-Length: 99999999999999\r\n\r\n" + picture(1),
    "/bad-chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + picture(1),
    "/no-http": b"\x00\x01\x02 hello\r\n\r\n" * 20,
    "/nothing": b"",
    "/empty": _whole(b""),
    "/page.png": _whole(b"<html>" + b" " * 500, b"Content-Type: image/png"),
    "/svg": _whole(b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"Content-Type: image/svg+xml"),
    "/lost": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "/noai": _whole(picture(1), b"X-Robots-Tag: noai"),
    "/for-us": _whole(picture(1), b"X-Robots-Tag: other: noindex", b"X-Robots-Tag: testbot: noml"),
    "/for-others": _whole(picture(3), b"X-Robots-Tag: otherbot: noindex, noai"),
    "/tdm": _whole(picture(1), b"tdm-reservation: 1"),
    "/cookie": _whole(picture(4), b"Set-Cookie: id=1; Path=/"),
}
_ANSWERS = {
    **{path: (lambda handler, data=data: _send(handler, data)) for path, data in _RAW.items()},
    "/slow-head": _slow_head,
    "/slow-body": _slow_body,
    "/silent": _silent,
    "/endless": _endless,
    "/endless-head": _endless_head,
    "/robots.txt": (200, {}, b"User-agent: *\nDisallow: /private\nAllow: /private/but-this.png\n"),
    "/.well-known/tdmrep.json": (200, {}, b'[{"location": "/reserved/", "tdm-reservation": 1}]'),
    "/private/but-this.png": (200, {}, picture(8)),
}
_EXPECTED: dict[str, tuple[str | None, ...]] = {
    "/ok.png": (None,),
    "/slow-head": ("timeout",),
    "/slow-body": ("timeout",),
    "/silent": ("timeout",),
    "/endless": ("too_large",),
    "/endless-head": ("incomplete",),
    "/long-line": ("incomplete",),
    "/gzip-bomb": ("too_large",),
    "/deflate-bomb": ("too_large",),
    "/brotli": ("content_encoding",),
    "/zstd": ("content_encoding",),
    "/no-gzip": ("content_encoding",),
    "/too-short": ("incomplete",),
    "/too-long": ("incomplete",),
    "/two-lengths": ("incomplete",),
    "/no-number": ("incomplete",),
    "/huge-length": ("too_large",),
    "/bad-chunks": ("incomplete",),
    "/no-http": ("incomplete",),
    "/nothing": ("incomplete",),
    "/empty": ("empty",),
    "/page.png": ("not_image",),
    "/svg": ("not_image",),
    "/lost": ("http_302",),
    "/round": ("too_many_redirects",),
    "/far/0": ("too_many_redirects",),
    "/to-loopback": ("private_address",),
    "/to-metadata": ("private_address",),
    "/to-mapped": ("private_address",),
    "/to-octal": ("private_address", "invalid_url"),
    "/to-decimal": ("private_address", "invalid_url"),
    "/to-file": ("invalid_url",),
    "/to-nonsense": ("invalid_url",),
    "/noai": ("opted_out",),
    "/for-us": ("opted_out",),
    "/for-others": (None,),
    "/tdm": ("opted_out",),
    "/private/x.png": ("robots_disallowed",),
    "/private/but-this.png": (None,),
    "/reserved/x.png": ("opted_out",),
    "/missing": ("http_404",),
    "/cookie": (None,),
    "/busy-for-seconds": (None,),
    "/busy-until-date": (None,),
    "/flaky": (None,),
}
