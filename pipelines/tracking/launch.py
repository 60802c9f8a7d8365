"""Starting mirrors, and what the driver may ask of them. Nothing here imports MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.promotions import Promotion, promotions
from pipelines.runs import RunRecord, list_runs
from pipelines.store import Store
from pipelines.tracking.address import UI_PORT, mirror_environment, run_url, tracking_uri
from pipelines.tracking.event_log import log_is_longer, run_ended
from pipelines.tracking.redaction import lacks_secret, public_address, same_server
from pipelines.tracking.state import read_state


def start_mirror(store: str | Path, run_id: str) -> subprocess.Popen[bytes]:
    """Start the mirror of a run as a process of its own that outlives the driver and its signals."""
    return _spawn(store, run_id, mirror_log(store, run_id))


def deliver_pending(store: str | Path, besides: str | None = None) -> subprocess.Popen[bytes] | None:
    """Deliver, in a process of its own, what earlier runs and promotions still owe to MLflow; None where nothing is
    owed.

    besides: a run that is about to get its own mirror.
    """
    runs = [run_id for run_id in pending_runs(store) if run_id != besides]
    if not runs and not untold_promotions(store):
        return None
    return _spawn(store, "--pending", Path(store) / "mlflow" / "pending.log")


def _spawn(store: str | Path, argument: str, log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    # -P: the folder that the user stands in may hold packages with the names of ours
    command = [sys.executable, "-P", "-m", "pipelines.tracking", str(Path(store).resolve()), argument]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own module, arguments are not parsed by a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=mirror_environment(),
            start_new_session=True,
        )


def pending_runs(store: str | Path) -> list[str]:
    """Runs of which MLflow lacks events, or the end, though no driver works on them any more, oldest first.

    A run whose mirror was never started was submitted without tracking and owes nothing.
    """
    runs = reversed(list(list_runs(Store(store))))
    return [run.id for run in runs if mirror_log(store, run.id).exists() and _is_pending(run)]


def _is_pending(run: RunRecord) -> bool:
    state = read_state(run.path)
    if not log_is_longer(run.path, state.offset if state is not None else 0) and (state is None or state.finished):
        return False
    return run_ended(run.path) or not run.alive()


def untold_promotions(store: str | Path) -> list[Promotion]:
    """Promotions that MLflow has not heard of, of models that have a version in it, oldest first."""
    root = Path(store)
    return [p for p in promotions(root) if not p.told and registered_here(root, p.key)]


def mirror_log(store: str | Path, run_id: str) -> Path:
    """Where the mirror of a run writes what it meets."""
    return Path(store) / "runs" / run_id / "logs" / "mirror.log"


def run_link(store: str | Path, run_id: str, port: int = UI_PORT) -> str | None:
    """Address of a run's page in MLflow, or None while the mirror has not made it."""
    state = read_state(Path(store) / "runs" / run_id)
    if state is None or not state.run_id:
        return None
    return run_url(state.tracking_uri, state.experiment_id, state.run_id, port)


def registration_path(store: str | Path, key: str) -> Path:
    """The record of the model version made from the artifact `key`."""
    return Path(store) / "registrations" / f"{key}.json"


def read_registration(store: str | Path, key: str) -> dict[str, Any] | None:
    """The model version made from the artifact `key`: name, version, alias, uri, run_id, tracking_uri."""
    try:
        return json.loads(registration_path(store, key).read_text())
    except (FileNotFoundError, ValueError):
        return None


def registered_here(store: str | Path, key: str) -> bool:
    """Whether the MLflow that the store's runs go to now has a version made from the artifact `key`."""
    found = read_registration(store, key)
    return found is not None and same_server(found["tracking_uri"], tracking_uri(store))


def await_registration(
    store: str | Path,
    key: str,
    mirror: subprocess.Popen[bytes] | None,
    timeout: float,
    run_id: str | None = None,
) -> dict[str, Any] | None:
    """Wait for the record of a model version while its mirror lives, at most `timeout` seconds.

    run_id: the mirrored run; while its mirror cannot reach MLflow nobody is kept waiting.
    """
    deadline = time.monotonic() + timeout
    while True:
        ended = mirror is None or mirror.poll() is not None
        found = read_registration(store, key)
        unreachable = run_id is not None and unreachable_flag(store, run_id).exists()
        if found is not None or ended or unreachable or time.monotonic() >= deadline:
            return found
        time.sleep(0.1)


def unreachable_flag(store: str | Path, run_id: str) -> Path:
    """A file that stands while the mirror of a run cannot reach MLflow; it holds the reason."""
    return Path(store) / "runs" / run_id / "mirror.unreachable"


def unreachable_reason(store: str | Path, run_id: str) -> str:
    """Why the mirror of a run cannot reach MLflow, or ""."""
    try:
        return unreachable_flag(store, run_id).read_text()
    except FileNotFoundError:
        return ""


def moved_remark(store: str | Path, run_id: str) -> str:
    """What to say to one who goes on with a run that was mirrored to another MLflow than runs go to now, or to the
    same with a password that is not given now; else ""."""
    state, uri = read_state(Path(store) / "runs" / run_id), tracking_uri(store)
    if state is None:
        return ""
    if not same_server(state.tracking_uri, uri):
        how = "set MLFLOW_TRACKING_URI to go on there"
        return f"{run_id} was mirrored to {state.tracking_uri}, this run goes to {public_address(uri)}; {how}"
    if lacks_secret(state.tracking_uri, uri):
        return f"{run_id} was mirrored with a password, which is not given now; {how_to_sign_in(uri)}"
    return ""


def how_to_sign_in(uri: str) -> str:
    """Where the password of an address belongs."""
    if uri.startswith(("http:", "https:")):
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return "set MLFLOW_TRACKING_URI with the database's user and password"
