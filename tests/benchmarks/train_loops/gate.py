"""Turns: a loop runs some steps when told, says what CPU time it has used, and waits. Standard library only."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Gate:
    """Stands in front of each step. After every `steps` of them it reports on `sys.stdout` and waits for a line.

    Whatever else prints goes to stderr from here on. An empty answer ends the process.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._passed, self._idle = 0, 0.0
        self._reports, sys.stdout = sys.stdout, sys.stderr

    def step(self) -> None:
        """Pass, or report and wait, before a step."""
        if self._passed % self.steps == 0:
            now = time.perf_counter()
            report = {"cpu": time.process_time(), "wall": now - self._idle, "steps": self._passed}
            print(json.dumps(report), file=self._reports, flush=True)
            if not sys.stdin.readline().strip():
                raise SystemExit(0)
            self._idle += time.perf_counter() - now
        self._passed += 1

    def through(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, over and over, each behind the gate."""
        endless = itertools.chain.from_iterable(itertools.repeat(batches))
        while True:
            self.step()
            yield next(endless)
