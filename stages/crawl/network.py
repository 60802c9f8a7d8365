"""The connect step of the crawler: resolves a name, checks each address, and connects to what it has checked.

Because the check and the connection use the same address, a name that resolves differently a moment later
(DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

from stages.crawl.addresses import is_public


class Refused(Exception):  # noqa: N818 - an outcome with a reason code, not a fault of the program
    """No connection was made. reason: "dns" | "private_address"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """TCP connections to public addresses, to hosts that the user allows, and to fixed places for given hosts.

    Sets no timeouts of its own: the caller bounds each whole exchange.

    allow_hosts: names (or addresses) that may resolve to anything.
    connect_to: host -> (address, port) to connect to in its place, whatever the port in the URL.
    """

    def __init__(
        self, allow_hosts: Iterable[str] = (), connect_to: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self._allowed = {_plain(host) for host in allow_hosts}
        self._connect_to = dict(connect_to or {})

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del timeout, local_address, socket_options
        if host in self._connect_to:
            return await _connect(*self._connect_to[host])
        failure: Exception = Refused("dns")
        for address in await self._addresses(host, port):
            try:
                return await _connect(address, port)
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Refused("dns") from None
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if _plain(host) in self._allowed:
            return addresses
        public = [address for address in addresses if is_public(address)]
        if addresses and not public:
            raise Refused("private_address")
        return public


def _plain(host: str) -> str:
    return host.lower().rstrip(".").strip("[]")


async def _connect(address: str, port: int) -> httpcore.AsyncNetworkStream:
    try:
        return _Stream(*await asyncio.open_connection(address, port))
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


class _Stream(httpcore.AsyncNetworkStream):
    """A TCP or TLS connection on asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        try:
            return await self._reader.read(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._writer.close()
        # A peer that does not answer the end of a TLS session must not hold up the crawl.
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del timeout
        try:
            await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except OSError as error:
            self._writer.close()
            raise httpcore.ConnectError(str(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._reader.at_eof() or self._writer.is_closing()
        if info == "ssl_object":
            return self._writer.get_extra_info("ssl_object")
        return None
