"""A small web server on loopback whose answers a test lays out, and which counts what is asked of it."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image, ImageDraw

from stages.artifact import Artifact
from stages.base import StageContext
from stages.crawl import Crawl, CrawlParams
from stages.in_process import InProcess

RULE_PATHS = ("/robots.txt", "/.well-known/tdmrep.json")
Answer = tuple[int, dict[str, str], bytes]


def picture(number: int, side: int = 48, format_: str = "PNG") -> bytes:
    """A drawn picture that no other number gives."""
    image = Image.new("RGB", (side, side), (number * 37 % 256, number * 91 % 256, 200))
    pen = ImageDraw.Draw(image)
    pen.ellipse((4, 4, side - 8, side - 4), fill=(255, number * 53 % 256, 30))
    pen.text((side // 4, side // 3), str(number), fill="black")
    out = io.BytesIO()
    image.save(out, format_)
    return out.getvalue()


class Web:
    """routes: path -> answer, or a function that takes the open handler.

    asked: number of requests by path; those for the site's rules are counted in `rules_asked`.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.routes: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: Counter[str] = Counter()
        self.rules_asked: Counter[str] = Counter()
        self._connections: list[socket.socket] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                (web.rules_asked if self.path in RULE_PATHS else web.asked)[self.path] += 1
                answer = web.routes.get(self.path, (404, {}, b"gone"))
                if callable(answer):
                    self.close_connection = True
                    answer(self)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # with less, connections beyond it wait a second and more on a busy machine

            def process_request(self, request: socket.socket, client_address: object) -> None:
                web._connections.append(request)
                super().process_request(request, client_address)

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that hangs up is what many a test is about."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def image(self, path: str, number: int = 1) -> str:
        self.routes[path] = (200, {"Content-Type": "image/png"}, picture(number))
        return self.url + path

    def redirect(self, path: str, target: str) -> str:
        self.routes[path] = (302, {"Location": target}, b"")
        return self.url + path

    def close(self) -> None:
        """Stop at once, open connections included, as when a network goes down."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Headers at once, then a byte now and then, for ever as far as a test is concerned."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(100):
        try:
            handler.wfile.write(b"\x89")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.1)


def run_crawl(work: Path, earlier: list[Artifact] | None = None, emit=None, **params: object):
    """Run the crawl stage in `work`; gives its result."""
    checked = CrawlParams(**{"timeout_s": 2.0, **params})
    work.mkdir(parents=True, exist_ok=True)
    context = StageContext(checked, work, {}, InProcess(), earlier=earlier or [], emit=emit or (lambda *_: None))
    return Crawl(checked).run(context)


def artifact(work: Path, kind: str = "fetches") -> Artifact:
    return Artifact(kind, kind, "key", "digest", work, {})
