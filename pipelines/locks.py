"""Per-key locks that wait. The kernel frees a local lock the moment its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[str], None] = lambda _holder: None, poll: float = 0.2) -> Iterator[None]:
    """Hold the lock at `path`; wait while another process holds it.

    on_wait: called before each further wait with words that name the holder; it may raise to give up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        while not _try(file.fileno()):
            on_wait(_holder(path))
            time.sleep(poll)
        try:
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            file.flush()
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock at `path`."""
    if not path.exists():
        return False
    with path.open("a+") as file:
        free = _try(file.fileno())
        if free:
            fcntl.flock(file, fcntl.LOCK_UN)
        return not free


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    try:
        data = json.loads(path.read_text())
        return f"process {data['pid']} on {data['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
