"""Smaller copies of pictures, made while the crawl runs, on processes that a hostile file may take down."""

from __future__ import annotations

import asyncio
import io
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from multiprocessing import get_context
from typing import Any

from stages.crawl.sniffing import image_mime

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are kept as they are: their header alone says so, and they are not decoded."""

_LONGEST_S = 60.0
_BATCH = 8
_PLAIN_MODES = {"L": "L", "RGB": "RGB", "1": "L", "CMYK": "RGB", "YCbCr": "RGB"}


def resized(data: bytes, side: int, quality: int) -> bytes | None:
    """A copy whose shorter side is `side` pixels: JPEG, or lossless WebP where the picture has transparency.

    None where the picture should stay as it is: it is not larger, is animated, has more than 8 bits a channel or too
    many pixels, or cannot be decoded. EXIF data and colour profile go along, and so the orientation still holds.
    JPEGs are decoded at a half, a quarter or an eighth of their size where that is enough (DCT scaling).
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if min(width, height) <= side or width * height > MAX_PIXELS or getattr(image, "n_frames", 1) > 1:
                return None
            scale = side / min(width, height)
            size = (max(side, round(width * scale)), max(side, round(height * scale)))
            alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            if not alpha and image.mode not in (*_PLAIN_MODES, "P"):
                return None
            kept = {name: image.info[name] for name in ("exif", "icc_profile") if image.info.get(name)}
            if image.mode == "CMYK":
                kept.pop("icc_profile", None)
            image.draft(None, size)
            plain = image.convert("RGBA" if alpha else _PLAIN_MODES.get(image.mode, "RGB"))
            small = plain.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
            out = io.BytesIO()
            if alpha:
                small.save(out, "WEBP", lossless=True, method=2, **kept)
            else:
                small.save(out, "JPEG", quality=quality, **kept)
            return out.getvalue()
    except Exception:  # noqa: BLE001 - decoders raise whatever they like; ingest gives such files their reason
        return None


def with_body(row: dict[str, Any], body: bytes) -> dict[str, Any]:
    """A row of the ledger whose picture is replaced."""
    return {**row, "bytes": body, "sha256": sha256(body).hexdigest(), "size": len(body), "mime": image_mime(body)}


def resized_all(batch: list[bytes], side: int, quality: int) -> list[bytes | None]:
    """`resized` for several pictures."""
    return [resized(data, side, quality) for data in batch]


class Resizer:
    """Makes copies on several processes. Use as an async context manager.

    What waits goes to a free process in batches. A file that kills or hangs its process costs the others of its batch
    nothing: each is tried once more alone, and what fails there is kept as it is.
    """

    def __init__(self, side: int, quality: int, processes: int = 0) -> None:
        self._side = side
        self._quality = quality
        self._processes = processes or len(os.sched_getaffinity(0))
        self._waiting: asyncio.Queue[tuple[bytes, asyncio.Future[bytes | None]]] = asyncio.Queue()
        self._alone = asyncio.Lock()
        self._pool = _new_pool(self._processes)

    async def __aenter__(self) -> Resizer:
        self._runners = [asyncio.create_task(self._run()) for _ in range(self._processes + 1)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        _stop(self._pool)

    async def copy(self, data: bytes) -> bytes | None:
        """The copy of a picture, or None where it stays as it is (see `resized`)."""
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((data, future))
        return await future

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            for (_, future), copy in zip(batch, await self._copies([data for data, _ in batch]), strict=True):
                future.set_result(copy)

    async def _copies(self, batch: list[bytes]) -> list[bytes | None]:
        pool = self._pool
        try:
            return await self._on(pool, batch)
        except (BrokenProcessPool, TimeoutError):
            if pool is self._pool:
                self._pool = _new_pool(self._processes)
                _stop(pool)
            return [await self._tried_alone(data) for data in batch]

    async def _tried_alone(self, data: bytes) -> bytes | None:
        async with self._alone:
            pool = _new_pool(1)
            try:
                return (await self._on(pool, [data]))[0]
            except (BrokenProcessPool, TimeoutError):
                return None
            finally:
                _stop(pool)

    async def _on(self, pool: ProcessPoolExecutor, batch: list[bytes]) -> list[bytes | None]:
        work = asyncio.get_running_loop().run_in_executor(pool, resized_all, batch, self._side, self._quality)
        return await asyncio.wait_for(work, _LONGEST_S)


def _new_pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def _stop(pool: ProcessPoolExecutor) -> None:
    """End a pool at once, processes that hang included."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
