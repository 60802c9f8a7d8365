"""Functions that stand in the place of a decoder and do what a bad file can make one do."""

from __future__ import annotations

import os
import signal
import time
from typing import Any


def misbehave(data: bytes, **options: Any) -> dict[str, Any]:
    """Do as the data says; give back its length otherwise."""
    if data == b"abort":
        os.abort()
    if data == b"segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"spin":
        while True:
            pass
    if data == b"sleep":
        time.sleep(3600)
    if data == b"grow":
        try:
            return {"length": len(bytearray(2 << 30))}
        except MemoryError:
            return {"reason": "out_of_memory", "detail": ""}
    if data == b"raise":
        raise RuntimeError("not caught")
    return {"length": len(data), **options}
