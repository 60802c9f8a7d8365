"""Python's cyclic garbage collector, at moments that the training chooses."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def collected_every(steps: int) -> Iterator[Callable[[int], None]]:
    """Switch the collector off inside; call what is yielded with the number of finished steps.

    A collection stops every thread for milliseconds, and where ranks collect at different steps each waits for all
    the others: by the number of the step they do it together.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()

    def collect(step: int) -> None:
        if step % steps == 0:
            gc.collect()

    try:
        yield collect
    finally:
        if enabled:
            gc.enable()
