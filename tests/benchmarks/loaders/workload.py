"""What every loader does, and how it is measured. Standard library only: peers run it, too."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable
from typing import Any

SIDE = 256
BATCH = 64
WORKERS = 2
PASSES = 2


def measure(open_loader: Callable[[], Callable[[int], Iterable[Any]]], spawned: int = 0) -> None:
    """Print a line of JSON with the figures of `PASSES` passes.

    open_loader: opens the data and returns what gives the batches of a pass.
    spawned: workers that start as new interpreters: what they import, as much as this one did, does not count.
    """
    before, began = _cpu_seconds(), time.perf_counter()
    batches = open_loader()
    images, first = 0, 0.0
    for number in range(PASSES):
        for batch in batches(number):
            first = first or time.perf_counter() - began
            images += len(batch)
    wall = time.perf_counter() - began
    for child in multiprocessing.active_children():  # the time of a child counts once it has ended
        child.terminate()
        child.join()
    figures = {
        "images": images,
        "cpu_s": _cpu_seconds() - before * (1 + spawned),
        "wall_s": wall,
        "first_batch_s": first,
        "import_cpu_s": before,
    }
    print(json.dumps(figures), flush=True)


def _cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def leave() -> None:
    """End without the libraries' own clean-up, which some of them hang in."""
    os._exit(0)
