"""Fetching one URL: redirects by hand, caps on time and bytes, and a reason code for whatever goes wrong."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import httpcore
import httpx

from stages.crawl.network import CheckedBackend, Refused
from stages.crawl.sniffing import SNIFF_BYTES, image_mime

MAX_REDIRECTS = 5
_RETRY_PAUSE_S = 0.3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Fetched:
    """What came of one URL.

    body: the bytes, where `reason` is None. reason: "invalid_url" | "dns" | "private_address" | "connect" |
    "timeout" | "tls" | "incomplete" | "too_large" | "too_many_redirects" | "not_image" | "empty" |
    "content_encoding" | "http_<status>".
    """

    final_url: str
    body: bytes = b""
    reason: str | None = None
    http_status: int | None = None
    mime: str | None = None

    @property
    def worth_retrying(self) -> bool:
        """Whether a moment later it may be otherwise."""
        return self.reason in ("timeout", "connect", "incomplete") or (self.http_status or 0) >= 500


class _Stop(Exception):  # noqa: N818 - leaves the reading of a body early
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _image_or_stop(head: bytes) -> None:
    if image_mime(head) is None:
        raise _Stop("not_image")


def _anything(head: bytes) -> None:
    del head


class Fetcher:
    """An HTTP/1.1 client for untrusted URLs. Use as an async context manager.

    timeout_s: for one whole exchange. max_bytes: longest body, also after inflating.
    """

    def __init__(
        self,
        backend: CheckedBackend,
        *,
        timeout_s: float,
        max_bytes: int,
        concurrency: int,
        user_agent: str,
        retries: int,
    ) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=concurrency, max_keepalive_connections=concurrency, network_backend=backend
        )
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._retries = retries
        self._headers = [("User-Agent", user_agent), ("Accept", "*/*"), ("Accept-Encoding", "identity")]

    async def __aenter__(self) -> Fetcher:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.aclose()

    async def image(self, url: str) -> Fetched:
        """Fetch an image; anything else is left after its first bytes with reason "not_image"."""
        return await self._with_retries(url, _image_or_stop)

    async def any(self, url: str) -> Fetched:
        """Fetch whatever stands there."""
        return await self._with_retries(url, _anything)

    async def _with_retries(self, url: str, check: Callable[[bytes], None]) -> Fetched:
        fetched = await self._follow(url, check)
        for attempt in range(self._retries):
            if not fetched.worth_retrying:
                break
            await asyncio.sleep(_RETRY_PAUSE_S * 2**attempt)
            fetched = await self._follow(url, check)
        return fetched

    async def _follow(self, url: str, check: Callable[[bytes], None]) -> Fetched:
        current = url
        for _ in range(MAX_REDIRECTS + 1):
            if not _is_web_url(current):
                return Fetched(current, reason="invalid_url")
            fetched = await self._once(current, check)
            if fetched.reason != "redirect":
                return fetched
            current = fetched.final_url
        return Fetched(current, reason="too_many_redirects")

    async def _once(self, url: str, check: Callable[[bytes], None]) -> Fetched:
        outcome = Fetched(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._get(url, check)
        except Refused as refused:
            return replace(outcome, reason=refused.reason)
        except TimeoutError:
            return replace(outcome, reason="timeout")
        except httpcore.ConnectError as error:
            tls = isinstance(error.__cause__, ssl.SSLError) or "SSL" in str(error) or "CERTIFICATE" in str(error)
            return replace(outcome, reason="tls" if tls else "connect")
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError):
            return replace(outcome, reason="incomplete")
        except (ValueError, OverflowError):
            return replace(outcome, reason="invalid_url")

    async def _get(self, url: str, check: Callable[[bytes], None]) -> Fetched:
        async with self._pool.stream("GET", _request_url(url), headers=self._headers) as response:
            headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            status = response.status
            if status in _REDIRECTS and b"location" in headers:
                return Fetched(_join(url, headers[b"location"]), reason="redirect", http_status=status)
            if status != 200:
                return Fetched(url, reason=f"http_{status}", http_status=status)
            outcome = Fetched(
                url, http_status=status, mime=headers.get(b"content-type", "").partition(";")[0].strip() or None
            )
            try:
                return replace(outcome, body=await self._body(response, headers, check))
            except _Stop as stop:
                return replace(outcome, reason=stop.reason)

    async def _body(
        self, response: httpcore.Response, headers: Mapping[bytes, str], check: Callable[[bytes], None]
    ) -> bytes:
        length = headers.get(b"content-length", "")
        if length.isdigit() and int(length) > self._max_bytes:
            raise _Stop("too_large")
        inflate = _inflater(headers.get(b"content-encoding", "identity"), self._max_bytes)
        chunks: list[bytes] = []
        size, checked = 0, False
        async for raw in response.aiter_stream():
            chunks.append(inflate(raw))
            size += len(chunks[-1])
            if size > self._max_bytes:
                raise _Stop("too_large")
            if not checked and size >= SNIFF_BYTES:
                check(b"".join(chunks)[:SNIFF_BYTES])
                checked = True
        body = b"".join(chunks)
        if not body:
            raise _Stop("empty")
        if not checked:
            check(body)
        return body


def _inflater(encoding: str, max_bytes: int) -> Callable[[bytes], bytes]:
    """A function from received chunks to content, which never gives more than `max_bytes` + 1 bytes at once."""
    if encoding in ("identity", ""):
        return lambda raw: raw
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _Stop("content_encoding")
    engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def inflate(raw: bytes) -> bytes:
        try:
            return engine.decompress(raw, max_bytes + 1)
        except zlib.error:
            raise _Stop("content_encoding") from None

    return inflate


def _is_web_url(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _request_url(url: str) -> httpcore.URL:
    parsed = httpx.URL(url)
    return httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)


def _join(url: str, location: str) -> str:
    try:
        return str(httpx.URL(url).join(location))
    except (httpx.InvalidURL, UnicodeError, ValueError):
        return location
