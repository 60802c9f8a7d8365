"""Where a store's runs are mirrored to, and how to look at them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.tracking.redaction import HIDDEN, bare_address, public_address

UI_PORT = 5000
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runner takes 1 GB and serves nothing here
}


def tracking_uri(store: str | Path) -> str:
    """The tracking URI of a store: `MLFLOW_TRACKING_URI`, else a SQLite file inside the store.

    It may hold a password: only `public_address` of it is for files and screens. Raises UsageError where the variable
    holds such a redacted address.
    """
    return _given("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(store).resolve() / 'mlflow' / 'mlflow.db'}"


def _given(variable: str) -> str | None:
    uri = os.environ.get(variable)
    if uri and f":{HIDDEN}@" in uri:
        raise UsageError(
            f"{variable} is {uri}, with {HIDDEN} in the place of the password, which curatrain never writes down: put "
            "the password there, or, for a web server, leave it out and set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    return uri


def _is_database(uri: str) -> bool:
    """Whether MLflow reads and writes a database itself, such as sqlite or postgresql+pg8000, and no server."""
    return uri.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def registry_uri(store: str | Path) -> str:
    """The model registry's URI: `MLFLOW_REGISTRY_URI`, else the tracking URI."""
    return _given("MLFLOW_REGISTRY_URI") or tracking_uri(store)


def artifact_location(store: str | Path, experiment: str) -> str | None:
    """Folder for an experiment's artifacts, or None where the tracking server decides."""
    if not _is_database(tracking_uri(store)):
        return None
    return (Path(store).resolve() / "mlflow" / "artifacts" / experiment).as_uri()


def import_environment() -> dict[str, str]:
    """Environment in which a child process finds the same packages as this one, wherever it is started."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, **_QUIET, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Environment in which a server that is down is noticed soon."""


def mirror_environment() -> dict[str, str]:
    """Environment of a mirror, whose own back-off takes the place of MLflow's."""
    return {**IMPATIENT, **import_environment(), "OMP_NUM_THREADS": "1"}


def ui_environment(store: str | Path) -> dict[str, str]:
    """Environment for `ui_command`: no telemetry, no job runner; and the database, whose address may hold a password
    and would be seen by all users in a list of processes."""
    return {**os.environ, **_QUIET, "MLFLOW_BACKEND_STORE_URI": tracking_uri(store)}


def ui_command(store: str | Path, port: int = UI_PORT) -> list[str]:
    """The command that serves MLflow's UI of a store on 127.0.0.1, in `ui_environment`.

    Raises UsageError where runs go to a tracking server, which has its own UI.
    """
    uri = tracking_uri(store)
    if uri.startswith(("http:", "https:")):
        raise UsageError(f"runs are mirrored to {public_address(uri)}; open that address in a browser")
    artifacts = (Path(store).resolve() / "mlflow" / "artifacts").as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server", "--default-artifact-root", artifacts),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]


def run_url(uri: str, experiment_id: str, run_id: str, port: int = UI_PORT) -> str:
    """Address of a run's page. Without `workflowType` a fresh browser opens MLflow in its GenAI mode."""
    base = bare_address(uri).rstrip("/") if uri.startswith(("http:", "https:")) else f"http://127.0.0.1:{port}"
    return f"{base}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
