"""Connections of the crawler: names are resolved, and each address is checked on the very socket that connects.

Because the check and the connection use the same socket address, a name that resolves differently a moment later
(DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from stages.crawl.addresses import TrustedHosts, is_public, plain

HEADER_BYTES = 16_384
"""Longest line of a response's head; there may be 128 of them."""

_READ_BYTES = 1 << 18
_KEEP_ALIVE_S = 15.0
_HOSTS_KEPT = 20_000


class Refused(OSError):  # noqa: N818 - an outcome with a reason code, not a fault of the program
    """No connection was made. reason: "dns" | "private_address". again: whether a later try may succeed."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again


class Network:
    """HTTP sessions to public addresses, to trusted hosts, and to fixed places for given hosts.

    Use as an async context manager. No cookies, no credentials, no proxies, nothing taken from the environment.

    allow_hosts: names, addresses or networks that may be private.
    connect_to: host -> (address, port) to connect to in its place, whatever the port in the URL.
    timeout_s: for one whole exchange; read_timeout_s: the longest silence within it.
    """

    def __init__(
        self,
        allow_hosts: Iterable[str] = (),
        connect_to: Mapping[str, tuple[str, int]] | None = None,
        *,
        timeout_s: float = 10.0,
        read_timeout_s: float = 10.0,
        tls: ssl.SSLContext | bool = True,
    ) -> None:
        self._trusted = TrustedHosts(allow_hosts)
        self._connect_to = {plain(host): place for host, place in (connect_to or {}).items()}
        self._timeout = ClientTimeout(total=timeout_s, sock_read=min(read_timeout_s, timeout_s), ceil_threshold=60)
        self._tls = tls
        self._trusts: dict[str, bool] = {}

    async def __aenter__(self) -> Network:
        resolver = _Resolver(self._trusted, self._connect_to)
        self._open_session = self._session(resolver, self._checked_socket)
        self._trusted_session = self._session(resolver, _any_socket)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open_session.close()
        await self._trusted_session.close()

    def trusts(self, host: str) -> bool:
        """Whether the user named this host, or the crawl itself serves it."""
        known = self._trusts.get(host)
        if known is None:
            known = self._trusted.names(host) or plain(host) in self._connect_to
            self._trusts[host] = known
            if len(self._trusts) > _HOSTS_KEPT:
                self._trusts.pop(next(iter(self._trusts)))
        return known

    def session(self, host: str) -> ClientSession:
        """The session to ask `host` through."""
        return self._trusted_session if self.trusts(host) else self._open_session

    async def reaches(self, host: str, port: int, timeout_s: float) -> bool:
        """Whether a TCP connection to a host comes about; nothing is asked of it."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await _Resolver(self._trusted, self._connect_to).resolve(host, port)
                _, writer = await asyncio.open_connection(found[0]["host"], found[0]["port"])
        except OSError:
            return False
        writer.close()
        return True

    def _session(self, resolver: AbstractResolver, socket_factory: Any) -> ClientSession:
        connector = TCPConnector(
            resolver=resolver,
            socket_factory=socket_factory,
            limit=0,
            ttl_dns_cache=60,
            keepalive_timeout=_KEEP_ALIVE_S,
            ssl=self._tls,
            ssl_shutdown_timeout=0,
        )
        return ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BYTES,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )

    def _checked_socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        address = str(info[4][0])
        if not (is_public(address) or self._trusted.holds(address)):
            raise Refused("private_address")
        return _any_socket(info)


def _any_socket(info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
    connection = socket.socket(info[0], info[1], info[2])
    connection.setblocking(False)
    return connection


class _Resolver(AbstractResolver):
    """The system's resolver on threads, without the addresses that may not be used."""

    def __init__(self, trusted: TrustedHosts, connect_to: Mapping[str, tuple[str, int]]) -> None:
        self._trusted = trusted
        self._connect_to = connect_to

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of a host. Raises Refused where there is none that may be used."""
        if plain(host) in self._connect_to:
            address, port = self._connect_to[plain(host)]
            return [_result(host, address, port, socket.AF_INET6 if ":" in address else socket.AF_INET)]
        try:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        except socket.gaierror as error:
            raise Refused("dns", again=error.errno == socket.EAI_AGAIN) from None
        except (OSError, UnicodeError):
            raise Refused("dns", again=True) from None
        usable = [info for info in found if self._usable(host, str(info[4][0]))]
        if not usable:
            raise Refused("private_address" if found else "dns")
        return [_result(host, str(info[4][0]), port, info[0]) for info in usable]

    def _usable(self, host: str, address: str) -> bool:
        return self._trusted.names(host) or is_public(address) or self._trusted.holds(address)

    async def close(self) -> None:
        """Nothing is held."""


def _result(host: str, address: str, port: int, family: int) -> ResolveResult:
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )
