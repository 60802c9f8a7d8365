"""A web server on loopback that knows byte ranges, or not, and can spoil what it sends."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Spoil = Callable[[str, bytes], bytes]


class Web(ThreadingHTTPServer):
    """Serves `folder`. requests: path and range of every request, in order. spoil: what is done to each answer."""

    def __init__(self, folder: Path, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges = folder, ranges
        self.requests: list[tuple[str, str | None]] = []
        self.spoil: Spoil = lambda _name, data: data

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, suffix: str = ".arrow") -> list[tuple[str, str | None]]:
        return [request for request in self.requests if request[0].endswith(suffix)]


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers.get("Range")
        self.server.requests.append((name, wanted))
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        if wanted and self.server.ranges:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
            data, status = data[first : last + 1], 206
        data = self.server.spoil(name, data)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path, ranges: bool = True) -> Iterator[Web]:
    with Web(folder, ranges) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
