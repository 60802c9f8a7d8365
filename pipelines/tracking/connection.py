"""A connection to MLflow: the client, the experiment, runs found by their tags, and which errors pass."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from pipelines.tracking.address import artifact_location, registry_uri, tracking_uri

_REFUSALS = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "INVALID_STATE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "NOT_FOUND",
    "FEATURE_DISABLED",
}
"""Error codes that a repetition would meet again."""


def refused(error: Exception) -> bool:
    """Whether MLflow (or a damaged record) will say no again, so that waiting makes no sense."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS
    return isinstance(error, (ValueError, KeyError, TypeError)) and not isinstance(error, OSError)


@contextlib.contextmanager
def _creation_lock(store: Path) -> Iterator[None]:
    """One process at a time creates tables and experiments; the kernel frees the lock of a dead one."""
    folder = store / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "create.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def connect(store: Path) -> MlflowClient:
    """A client that has reached its server, or its database, created if need be.

    Raises MlflowException, or an error of the database, where it is unreachable.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri(store)
    mlflow.set_tracking_uri(uri)  # the registry resolves a `models:/m-...` source through the global address
    with _creation_lock(store):
        client = MlflowClient(tracking_uri=uri, registry_uri=registry_uri(store))
        client.search_experiments(max_results=1)
    return client


def experiment(client: MlflowClient, store: Path, name: str) -> str:
    """The id of the experiment `name`, made, or restored from the bin, where it does not stand."""
    with _creation_lock(store):
        found = client.get_experiment_by_name(name)
        if found is None:
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return client.create_experiment(name, artifact_location(store, name), tags)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id


def find_run(client: MlflowClient, experiment_ids: list[str], tags: dict[str, str]) -> Run | None:
    """The earliest run that carries all of `tags`, or None."""
    query = " and ".join(f"tags.`{key}` = '{quoted(value)}'" for key, value in tags.items())
    runs = client.search_runs(experiment_ids, query, ViewType.ACTIVE_ONLY, 1, ["attributes.start_time ASC"])
    return runs[0] if runs else None


def quoted(value: str) -> str:
    """A value for a search expression, which knows no escape for its own quote."""
    return value.replace("'", "_")
