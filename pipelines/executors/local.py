"""Steps one after the other in a thread of this process."""

from __future__ import annotations

import queue
import threading

from pipelines.step import Order, Outcome, carry_out
from stages.in_process import InProcess


class LocalExecutor:
    """Runs without Ray. A step cannot be ended by force; it stops at its next part when cancelled."""

    greeting = "running in this process"

    def __init__(self) -> None:
        self._orders: queue.Queue[Order | None] = queue.Queue()
        self._outcomes: queue.Queue[tuple[str, Outcome]] = queue.Queue()
        self._compute = InProcess()
        self._thread = threading.Thread(target=self._work, name="steps", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def capacity(self) -> dict[str, float]:
        return {"CPU": float(self._compute.cpus())}

    def free(self) -> dict[str, float]:
        return {}

    def submit(self, order: Order) -> None:
        self._orders.put(order)

    def queued(self, stage: str) -> bool:
        return any(order is not None and order.stage == stage for order in list(self._orders.queue))

    def finished(self, timeout: float) -> list[tuple[str, Outcome]]:
        try:
            found = [self._outcomes.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._outcomes.empty():
            found.append(self._outcomes.get())
        return found

    def stop(self, stage: str) -> None:
        del stage

    def close(self) -> None:
        self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            self._outcomes.put((order.stage, carry_out(order, self._compute)))
