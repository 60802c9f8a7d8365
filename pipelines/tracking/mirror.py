"""The mirror's own life: follow the log of a run, deliver, be patient with a server that is down, end."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.runs import RunRecord
from pipelines.store import Store
from pipelines.tracking.address import tracking_uri
from pipelines.tracking.event_log import LoggedEvent, read_events, run_ended
from pipelines.tracking.launch import how_to_sign_in, pending_runs, unreachable_flag
from pipelines.tracking.redaction import public_address, redacted
from pipelines.tracking.state import load_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipelines.tracking.delivery import Delivery

_POLL = 0.5
_LONGEST_WAIT = 15.0
_BUFFER = 2000
_STUBBORN = 3
"""Times that an event may fail on a server that answers, before it is left out."""


class Outcome(enum.IntEnum):
    """How a mirror ended, and the exit code of its process."""

    DELIVERED = 0
    UNREACHABLE = 3
    HELD_BY_ANOTHER = 4


class Mirror:
    """Delivers one run. `deliver` may fail, or its process be killed, at any point and be called again."""

    def __init__(self, store: Path, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self.record = RunRecord(Store(store), run_id)
        self.folder = self.record.path
        self.unreachable = unreachable_flag(store, run_id)
        self._client: MlflowClient | None = None
        self._failures: Counter[int] = Counter()

    def deliver(self, driver_lives: bool) -> bool:
        """Deliver what the log holds; True when nothing more can come.

        Raises what MLflow raises where it cannot be reached; the saved state then says where to go on.
        """
        state = load_state(self.folder, tracking_uri(self.store))
        events = read_events(self.folder, state.offset)
        first = next(events, None)
        if first is None and (driver_lives or state.finished or not state.run_id):
            return state.finished or not driver_lives
        delivery = self._open()
        for event in chain([first] if first else [], events):
            self._deliver_event(delivery, event)
            if delivery.buffered > _BUFFER:
                delivery.flush()
            if not delivery.buffered:
                delivery.state.offset = event.end
                delivery.state.save(self.folder)
            last = event.end
        delivery.flush()
        if first is not None:
            delivery.state.offset = last
        if not driver_lives and not delivery.state.finished:
            delivery.close("killed")
        delivery.state.save(self.folder)
        return delivery.state.finished

    def _open(self) -> Delivery:
        from pipelines.tracking.connection import connect
        from pipelines.tracking.delivery import Delivery

        if self._client is None:
            self._client = connect(self.store)
        return Delivery(self.store, self.run_id, load_state(self.folder, tracking_uri(self.store)), self._client)

    def _deliver_event(self, delivery: Delivery, event: LoggedEvent) -> None:
        what = f"{event.kind} of {event.stage or 'the run'}"
        if self._failures[event.end] >= _STUBBORN:
            delivery.skip(f"{what}: it failed {_STUBBORN} times on a server that answers")
            return
        try:
            with delivery.tolerant(what):
                delivery.handle(event)
        except Exception:
            with contextlib.suppress(Exception):
                delivery.client.search_experiments(max_results=1)
                self._failures[event.end] += 1
            self._client = None
            raise


@contextlib.contextmanager
def _run_lock(run_folder: Path) -> Iterator[bool]:
    """Whether this is the only mirror of the run; the kernel frees the lock of a dead one."""
    with (run_folder / "mirror.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def mirror_run(store: Path, run_id: str, once: bool = False, patience: float = 60.0) -> Outcome:
    """Mirror a run until its end was delivered, or its driver is dead and the log has nothing more.

    once: deliver what there is and return.
    patience: seconds for which a server may stay down after the run has ended; the rest is left to `pending_runs`.
    """
    mirror = Mirror(store, run_id)
    with _run_lock(mirror.folder) as alone:
        if not alone:
            return Outcome.HELD_BY_ANOTHER
        outcome = _follow(mirror, once, patience)
    if outcome is Outcome.DELIVERED:
        _tell_promotions(store)
    return outcome


def _follow(mirror: Mirror, once: bool, patience: float) -> Outcome:
    wait, down_since = _POLL, None
    while True:
        lives = mirror.record.alive()
        try:
            delivered = mirror.deliver(lives)
            mirror.unreachable.unlink(missing_ok=True)
            if delivered or once:
                return Outcome.DELIVERED
            wait, down_since = _POLL, None
        except Exception as error:  # noqa: BLE001 - whatever a tracking server does must not end the mirror
            reason = _reason(mirror.store, error)
            print(f"{time.strftime('%H:%M:%S')} waiting for MLflow: {reason}", file=sys.stderr, flush=True)  # noqa: T201
            mirror.unreachable.write_text(reason)
            if once:
                return Outcome.UNREACHABLE
            if run_ended(mirror.folder) or not lives:
                down_since = down_since or time.monotonic()
                if time.monotonic() - down_since > patience:
                    return Outcome.UNREACHABLE
            wait = min(wait * 2, _LONGEST_WAIT)
        time.sleep(wait)


def _reason(store: Path, error: Exception) -> str:
    """The error for a person, without passwords; how to sign in, where that is what the server asks for."""
    from mlflow.exceptions import MlflowException

    told = redacted(error)
    code = error.error_code if isinstance(error, MlflowException) else ""
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED") or re.search(r"password|authenticat", told, re.IGNORECASE):
        uri = tracking_uri(store)
        return f"{public_address(uri)} does not let us in: {how_to_sign_in(uri)} ({told})"
    return told


def mirror_pending(store: Path, patience: float = 20.0) -> Outcome:
    """Deliver what runs without a driver still owe; ends at the first that cannot be delivered."""
    for run_id in pending_runs(store):
        if mirror_run(store, run_id, patience=patience) is Outcome.UNREACHABLE:
            return Outcome.UNREACHABLE
    return Outcome.DELIVERED if _tell_promotions(store) else Outcome.UNREACHABLE


def _tell_promotions(store: Path) -> bool:
    """Move the aliases that wait for their models or their server; whether none is left."""
    from pipelines.tracking.promoting import tell_promotions

    try:
        tell_promotions(store)
    except Exception as error:  # noqa: BLE001 - whatever a tracking server does, the next mirror tries again
        reason = _reason(store, error)
        print(f"{time.strftime('%H:%M:%S')} aliases wait for MLflow: {reason}", file=sys.stderr, flush=True)  # noqa: T201
        return False
    return True
