"""A process that a bad file may kill: files go in, findings come out, and whatever happens is a finding.

Run as a module it is that process: `python -m stages.ingest.isolation SOCKET FUNCTION LIMITS`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

_HEAD = struct.Struct("<Q")
_READY = b"\x06"
_WALL_FACTOR, _WALL_EXTRA_S = 10, 60
_START_S = 120


@dataclass(frozen=True)
class Limits:
    """What one file may take. cpu_s: CPU seconds. memory: bytes of address space besides the program itself.

    The limit on time counts CPU seconds, so that a busy machine changes nothing; a process that neither works nor
    answers is given up after ten times as many seconds and a minute.
    """

    cpu_s: float = 20.0
    memory: int = 3 << 30


class IsolatedInspector:
    """Calls `function(data, **options)` in a process of its own, which is started again when it dies.

    function: "module:name"; it takes bytes and gives plain values. A file at which the process dies is tried once
    more in a fresh one, since the cause may have been another; then its reason is "decoder_crash", or
    "decoder_timeout" where it took too long.
    """

    def __init__(self, function: str, options: dict[str, Any], limits: Limits) -> None:
        self._function = function
        self._options = options
        self._limits = limits
        self._wall_s = limits.cpu_s * _WALL_FACTOR + _WALL_EXTRA_S
        self._process: subprocess.Popen[bytes] | None = None
        self._close: Callable[[], object] = lambda: None

    def __call__(self, data: bytes) -> dict[str, Any]:
        """The function's result, or {"reason", "detail"} of how the process ended."""
        fresh = self._process is None
        finding = self._ask(data)
        if finding.get("reason") == "decoder_crash" and not fresh:
            finding = self._ask(data)
        return finding

    def close(self) -> None:
        """End the process."""
        self._close()
        self._process = None

    def _ask(self, data: bytes) -> dict[str, Any]:
        if self._process is None:
            self._start()
        try:
            self._socket.sendall(_HEAD.pack(len(data)) + data)
            answer = _receive(self._socket)
        except TimeoutError:
            self.close()
            return {"reason": "decoder_timeout", "detail": f"no answer within {self._wall_s:g} seconds"}
        except OSError:
            answer = None
        if answer is None:
            return self._ended()
        finding: dict[str, Any] = json.loads(answer)
        return finding

    def _ended(self) -> dict[str, Any]:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        self.close()
        if code == -signal.SIGPROF:
            return {"reason": "decoder_timeout", "detail": f"more than {self._limits.cpu_s:g} CPU seconds"}
        how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
        return {"reason": "decoder_crash", "detail": f"the decoder died ({how})"}

    def _start(self) -> None:
        """Start the process and wait until it is ready. Raises RuntimeError where it does not start."""
        ours, theirs = socket.socketpair()
        limits = json.dumps({"options": self._options, **asdict(self._limits)})
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), self._function, limits]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            theirs.close()
            ours.settimeout(_START_S)
            try:
                ready = ours.recv(1)
            except OSError:
                ready = b""
            if ready != _READY:
                _end(self._process, ours)
                raise RuntimeError(f"the decoder process does not start: {_tail(errors)}")
        ours.settimeout(self._wall_s)
        self._socket = ours
        self._close = weakref.finalize(self, _end, self._process, ours)


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    process.kill()
    process.wait()


def _tail(errors: BinaryIO) -> str:
    errors.seek(0)
    return errors.read().decode("utf-8", "replace").strip()[-500:] or "it says nothing"


def _receive(connection: socket.socket) -> bytes | None:
    """One message, or None where the other side is gone."""
    head = _exactly(connection, _HEAD.size)
    return None if head is None else _exactly(connection, _HEAD.unpack(head)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    buffer = bytearray(size)
    view, got = memoryview(buffer), 0
    while got < size:
        count = connection.recv_into(view[got:])
        if count == 0:
            return None
        got += count
    return bytes(buffer)


def serve(connection: socket.socket, function: str, limits: str) -> None:
    """Answer until the other side is gone."""
    settings = json.loads(limits)
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    _limit_memory(settings["memory"])
    connection.sendall(_READY)
    while (data := _receive(connection)) is not None:
        signal.setitimer(signal.ITIMER_PROF, settings["cpu_s"])  # its default action ends the process
        finding = call(data, **settings["options"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        answer = json.dumps(finding).encode()
        connection.sendall(_HEAD.pack(len(answer)) + answer)


def _limit_memory(most: int) -> None:
    """Bound the address space to what the program has now and `most` bytes, where the system knows such a limit."""
    import resource

    import psutil

    with contextlib.suppress(ValueError, OSError):
        now = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (now + most, now + most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3])
