"""Running the crawler's event loop, also where the caller's thread has one already, as in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from stages.crawl import CrawlParams

T = TypeVar("T")

_MOST_THREADS = 64


def run(work: Callable[[], Coroutine[Any, Any, T]], params: CrawlParams) -> T:
    """Run `work()` to its end.

    Raises what it raises; of several failures of a task group, the first.
    """

    async def main() -> T:
        # Names are resolved and files are read on threads: few of them, and slow name servers hold up all.
        pool = ThreadPoolExecutor(min(params.concurrency, _MOST_THREADS), thread_name_prefix="crawl")
        asyncio.get_running_loop().set_default_executor(pool)
        return await work()

    try:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(main())
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, main()).result()
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
