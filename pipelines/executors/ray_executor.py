"""Steps as named tasks of a Ray cluster. A step holds no CPU itself: its own actors and workers do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.errors import BlockedError
from pipelines.step import Order, Outcome, carry_out

RETRIES = 3
"""How often Ray runs a step again whose worker process or node died."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # raylet messages would land on standard output, between our own lines or inside --json; the run's log tells of
    # restarts in its own words
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


class RayExecutor:
    """Runs on the cluster at `address`, or on one of its own that lives as long as the run.

    cpus: CPUs of its own cluster; all of the machine's when None.
    """

    def __init__(self, scratch: Path, address: str | None = None, cpus: int | None = None) -> None:
        self._scratch = scratch
        self._address = address or os.environ.get("RAY_ADDRESS") or None
        self._cpus = cpus
        self._refs: dict[str, Any] = {}
        where = f"to the Ray cluster at {self._address}" if self._address else "a Ray cluster for this run"
        self.greeting = f"{'connecting' if self._address else 'starting'} {where}"

    def start(self) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        threads = str(self._cpus or os.cpu_count() or 1)
        environment = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, **_QUIET}
        shared: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "runtime_env": {"env_vars": environment},
        }
        with _own_signal_handlers():
            if self._address:
                _probe(self._address)
                ray.init(address=self._address, **shared)
            else:
                ray.init(
                    address="local",
                    num_cpus=self._cpus,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.2",
                    **shared,
                )

    def capacity(self) -> dict[str, float]:
        import ray

        return _resources(ray.cluster_resources())

    def free(self) -> dict[str, float]:
        import ray

        return _resources(ray.available_resources())

    def submit(self, order: Order) -> None:
        import ray

        task = ray.remote(num_cpus=0, max_retries=RETRIES)(_carry_out_on_ray)
        name = f"{order.run}/{order.stage}"
        self._refs[order.stage] = task.options(name=name).remote(order, str(self._scratch))

    def queued(self, stage: str) -> bool:  # noqa: ARG002 - every step is a task at once
        return False

    def finished(self, timeout: float) -> list[tuple[str, Outcome]]:
        import ray

        if not self._refs:
            return []
        ready, _ = ray.wait(list(self._refs.values()), num_returns=1, timeout=timeout)
        ended = [stage for stage, ref in self._refs.items() if ref in ready]
        return [(stage, _outcome(self._refs.pop(stage))) for stage in ended]

    def stop(self, stage: str) -> None:
        import ray

        if stage in self._refs:
            ray.cancel(self._refs[stage], force=True)

    def close(self) -> None:
        import ray

        ray.shutdown()


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray puts handlers of its own in place of those that let a run stop in order; put ours back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            if handler is not None:
                signal.signal(number, handler)


def _carry_out_on_ray(order: Order, scratch: str) -> Outcome:
    from pipelines.executors.ray_compute import RayCompute

    return carry_out(order, RayCompute(Path(scratch)))


def _outcome(ref: Any) -> Outcome:
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return Outcome("cancelled", "cancelled by force; what it had finished stays for the next run")
    except ray.exceptions.RayError as error:
        text = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        return Outcome("failed", f"Ray lost its process; submit again to go on from what was finished: {text}")


def _resources(found: dict[str, float]) -> dict[str, float]:
    return {"CPU": found.get("CPU", 0.0), "GPU": found.get("GPU", 0.0)}


def _probe(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError as error:
        raise BlockedError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start one with `ray start --head`, "
            "or leave out --address for a local one"
        ) from None
