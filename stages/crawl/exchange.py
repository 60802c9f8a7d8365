"""One request and its response: caps on time, bytes and headers, and a reason code for whatever goes wrong."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import ClientResponse
from yarl import URL

from stages.crawl.network import Network, Refused
from stages.crawl.reasons import Reason
from stages.crawl.reservations import OptOuts
from stages.crawl.sniffing import SNIFF_BYTES, image_mime

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_URL = 8192


@dataclass(slots=True)
class Fetched:
    """What came of one URL.

    body: the bytes, where `reason` is None. reason: a code of `stages.crawl.reasons`; "unchanged" where the server
    says so. again: whether a later try may give another result. wait_s: how long the server asks to wait.
    robots: what the site says of crawlers. attempts: requests made, redirects and retries included.
    mime: as declared. location: where a redirect leads.
    """

    final_url: str
    body: bytes = b""
    reason: str | None = None
    http_status: int | None = None
    mime: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    robots: str | None = None
    attempts: int = 0
    again: bool = False
    wait_s: str | None = None
    location: str | None = None


Check = Callable[[bytes], bool]
"""Whether a response whose first bytes are these is wanted."""


def is_image(head: bytes) -> bool:
    """Whether a file begins as one of the known picture formats."""
    return image_mime(head) is not None


def anything(head: bytes) -> bool:
    """Take whatever comes."""
    del head
    return True


class _Stop(Exception):  # noqa: N818 - leaves the reading of a body early
    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again


class Exchange:
    """HTTP/1.1 GET for untrusted URLs, one hop at a time.

    max_bytes: longest body, also after inflating.
    """

    def __init__(self, network: Network, opt_outs: OptOuts, user_agent: str, max_bytes: int) -> None:
        self._network = network
        self._opt_outs = opt_outs
        self._headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._max_bytes = max_bytes

    async def get(
        self, url: URL, check: Check, *, headers: Mapping[str, str] | None = None, first_bytes: int = 0
    ) -> Fetched:
        """Fetch one hop of a URL (see `web_url`).

        headers: further ones, for conditional requests. first_bytes: take only so much of a longer body, and take it
        whatever the headers say of its use, as is right for a site's rules.
        """
        fetched = Fetched(str(url))
        try:
            session = self._network.session(url.host or "")
            sent = {**self._headers, **headers} if headers else self._headers
            async with session.get(url, headers=sent, allow_redirects=False) as response:
                await self._read(response, fetched, check, first_bytes)
        except _Stop as stop:
            fetched.reason, fetched.again = stop.reason, stop.again
        except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError, ValueError) as error:
            fetched.reason, fetched.again = _reason_of(error)
        return fetched

    async def _read(self, response: ClientResponse, fetched: Fetched, check: Check, first_bytes: int) -> None:
        headers = response.headers
        status = fetched.http_status = response.status
        if status in _REDIRECTS and "Location" in headers:
            fetched.location = headers["Location"]
            return
        fetched.etag, fetched.last_modified = headers.get("ETag"), headers.get("Last-Modified")
        if status == 304:
            raise _Stop(Reason.UNCHANGED)
        if status != 200:
            fetched.wait_s = headers.get("Retry-After")
            raise _Stop(f"http_{status}", again=status == 429 or status >= 500)
        fetched.mime = headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
        refused = self._opt_outs.of_headers(headers.getall("X-Robots-Tag", ()), headers.get("TDM-Reservation"))
        if refused and not first_bytes:
            fetched.robots = refused
            raise _Stop(Reason.OPTED_OUT)
        fetched.body = await _body(response, check, first_bytes or self._max_bytes, cut=bool(first_bytes))


async def _body(response: ClientResponse, check: Check, most: int, *, cut: bool) -> bytes:
    length = response.content_length
    if length is not None and length > most and not cut:
        raise _Stop(Reason.TOO_LARGE)
    inflate = _inflater(response.headers.get("Content-Encoding", "identity").strip().lower(), most)
    chunks: list[bytes] = []
    size, checked = 0, False
    async for raw in response.content.iter_any():
        chunk = inflate(raw) if inflate else raw
        chunks.append(chunk)
        size += len(chunk)
        if not checked and size >= SNIFF_BYTES:
            checked = True
            if not check(b"".join(chunks)[:SNIFF_BYTES]):
                raise _Stop(Reason.NOT_IMAGE)
        if size > most:
            if cut:
                break
            raise _Stop(Reason.TOO_LARGE)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if not body:
        raise _Stop(Reason.EMPTY)
    if not checked and not check(body):
        raise _Stop(Reason.NOT_IMAGE)
    return body[:most]


def _inflater(encoding: str, most: int) -> Callable[[bytes], bytes] | None:
    """A function from received chunks to content, which never gives more than `most` + 1 bytes at once.

    Only gzip and deflate are inflated, since nothing compressed is asked for.
    """
    if encoding in ("identity", ""):
        return None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _Stop(Reason.CONTENT_ENCODING)
    engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def inflate(raw: bytes) -> bytes:
        try:
            return engine.decompress(raw, most + 1)
        except zlib.error:
            raise _Stop(Reason.CONTENT_ENCODING) from None

    return inflate


def _reason_of(error: Exception) -> tuple[str, bool]:
    """Reason code of what a request raised, and whether a later try may go better."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, Refused):
        return error.os_error.reason, error.os_error.again
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Reason.TIMEOUT, True
    if isinstance(error, aiohttp.InvalidURL | ValueError) and not isinstance(error, ssl.CertificateError):
        return Reason.INVALID_URL, False
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Reason.TLS, False
    if isinstance(error, aiohttp.ClientConnectorError):
        return Reason.CONNECT, True
    return Reason.INCOMPLETE, True


def web_url(text: str) -> URL | None:
    """An http(s) URL in the form that requests take, without fragment, user name and password; None if it is none."""
    if len(text) > _LONGEST_URL:
        return None
    try:
        url = URL(text)
        if url.scheme not in ("http", "https") or not url.host:
            return None
        if url.raw_user is not None or url.raw_password is not None:
            url = url.with_user(None)
        return url.with_fragment(None) if url.raw_fragment else url
    except (ValueError, TypeError, UnicodeError):
        return None


def next_url(url: URL, location: str) -> URL | None:
    """Where a redirect leads; None where that is no http(s) URL."""
    try:
        joined = str(url.join(URL(location)))
    except (ValueError, TypeError, UnicodeError):
        return None
    return web_url(joined)
