"""What the driver asks of an executor."""

from __future__ import annotations

from typing import Protocol

from pipelines.step import Order, Outcome


class Executor(Protocol):
    """Runs orders. Started before its first order, closed at the end."""

    greeting: str
    """What the user is told while it starts."""

    def start(self) -> None:
        """Get ready to run. Raises BlockedError where that cannot be."""

    def capacity(self) -> dict[str, float]:
        """What there is in all: {"CPU": ..., "GPU": ...}."""

    def free(self) -> dict[str, float]:
        """What of it nobody holds now; nothing where that is not known."""

    def submit(self, order: Order) -> None:
        """Begin a step."""

    def queued(self, stage: str) -> bool:
        """Whether a submitted step only waits for those before it."""

    def finished(self, timeout: float) -> list[tuple[str, Outcome]]:
        """Stages that have ended since the last call, waiting up to `timeout` seconds for the first."""

    def stop(self, stage: str) -> None:
        """End a running step by force."""

    def close(self) -> None:
        """Give everything back."""
