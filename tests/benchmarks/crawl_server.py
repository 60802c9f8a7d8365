"""A web server on loopback for benchmarks, quick enough not to be what is measured; run as a process of its own.

crawl_server.py CORPUS INDEX serves the slices of the file CORPUS that INDEX (JSON: name -> [offset, length]) names,
on every address of 127.0.0.0/8, and prints its port. Hosts 127.0.99.x wait 20 seconds before they answer an image.
/tiny/<n>.png is a small picture for any n.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import sys
import zlib
from pathlib import Path

SLOW_PREFIX = b"127.0.99."
SLOW_S = 20.0


def tiny_png(number: int) -> bytes:
    """A grey 16 x 16 PNG of less than 100 bytes; `number` makes it one of its kind."""
    import struct

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((number >> shift & 255) for shift in range(0, 32, 2)) for _ in range(16))
    head = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Handler(asyncio.Protocol):
    def __init__(self, corpus: memoryview, index: dict[str, list[int]]) -> None:
        self._corpus = corpus
        self._index = index

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            slow = b"Host: " + SLOW_PREFIX in head and not path.startswith(("/robots", "/.well-known"))
            if slow:
                asyncio.get_running_loop().call_later(SLOW_S, self._answer, path)
            else:
                self._answer(path)

    def _answer(self, path: str) -> None:
        name = path.rsplit("/", 1)[1].partition("?")[0]
        if path.startswith("/tiny/"):
            body: bytes | memoryview = tiny_png(int(name.removesuffix(".png")))
        elif name in self._index:
            offset, length = self._index[name]
            body = self._corpus[offset : offset + length]
        else:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        self._transport.writelines(
            [b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body), body]
        )


async def main(corpus: Path, index: Path) -> None:
    with corpus.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    entries = json.loads(index.read_text())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Handler(view, entries), "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
