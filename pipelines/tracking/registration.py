"""From a register stage's artifact to a version in the model registry."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, LoggedModelOutput, Metric, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipelines.tracking.connection import quoted
from pipelines.tracking.event_log import LoggedEvent
from pipelines.tracking.launch import registration_path
from pipelines.tracking.state import MirrorState
from pipelines.tracking.values import DESCRIPTION_LIMIT, PARAM_LIMIT, TAG_LIMIT, clipped, numbers
from stages.base import committed

_KEY = "curatrain.key"
_DIGEST = 32


def register(
    client: MlflowClient, store: Path, folder: Path, event: LoggedEvent, state: MirrorState, run_id: str
) -> None:
    """Make the model version of a register stage's artifact, or find the one that was made from the same key.

    folder: the artifact, with `registration.json` and the MLflow model in `model/`. run_id: the stage's child run.
    Records what stands in `<store>/registrations/<key>.json`.
    """
    wanted = json.loads((folder / "registration.json").read_text())
    name, key = str(wanted["name"]), str(event.fields["key"])
    tags = {str(k): clipped(str(v), TAG_LIMIT) for k, v in (wanted.get("tags") or {}).items()} | {_KEY: key}
    _ensure_registered_model(client, name)
    version = _find_version(client, name, key)
    if version is None:
        model = _logged_model(client, folder, wanted, tags, state.experiment_id, run_id)
        _bind(client, model, wanted, event, run_id, state.run_id)
        version = client.create_model_version(
            name, f"models:/{model.model_id}", run_id, tags, None, _described(wanted), model_id=model.model_id
        )
    _link_model_to_version(client, version)
    alias = wanted.get("alias")
    if alias:
        point_alias(client, name, str(alias), str(version.version), event.milliseconds)
    record = {
        "name": name,
        "version": str(version.version),
        "alias": alias,
        "uri": f"models:/{name}/{version.version}",
        "run_id": version.run_id or run_id,
        "tracking_uri": state.tracking_uri,
    }
    client.log_batch(run_id, tags=[RunTag("curatrain.model", record["uri"])])
    with committed(registration_path(store, key)) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def _described(wanted: dict[str, Any]) -> str:
    """The card in short, whole lines of it as far as a version's description goes."""
    text = str(wanted.get("card") or wanted.get("description") or "")
    if len(text) <= DESCRIPTION_LIMIT:
        return text
    return text[: DESCRIPTION_LIMIT - 2].rpartition("\n")[0] + "\n…"


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find_version(client: MlflowClient, name: str, key: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = '{quoted(name)}'")
    same = [v for v in versions if v.tags.get(_KEY) == key]
    return min(same, key=lambda v: int(v.version), default=None)


def _logged_model(
    client: MlflowClient, folder: Path, wanted: dict[str, Any], tags: dict[str, str], experiment_id: str, run_id: str
) -> LoggedModel:
    key = tags[_KEY]
    for model in client.search_logged_models([experiment_id], f"tags.`{_KEY}` = '{key}'"):
        if str(model.status) == "READY":
            return model
        client.delete_logged_model(model.model_id)
    params = {str(k): clipped(str(v), PARAM_LIMIT) for k, v in (wanted.get("params") or {}).items()}
    name = re.sub(r"[/:.%\"']", "-", str(wanted["name"]))  # characters that a logged model's name may not hold
    noted = tags | {"mlflow.note.content": _described(wanted)}
    model = client.create_logged_model(experiment_id, name, run_id, noted, params, "vision backbone")
    client.log_model_artifacts(model.model_id, str(folder / "model"))
    _name_model_in_its_file(client, folder / "model" / "MLmodel", model.model_id, run_id)
    return client.finalize_logged_model(model.model_id, "READY")


def _name_model_in_its_file(client: MlflowClient, path: Path, model_id: str, run_id: str) -> None:
    """The stored artifact cannot know these ids, and MLflow's pages and loaders read them in `MLmodel`."""
    described = yaml.safe_load(path.read_text())
    described |= {"model_id": model_id, "run_id": run_id}
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / "MLmodel"
        named.write_text(yaml.safe_dump(described, sort_keys=False))
        client.log_model_artifact(model_id, str(named))


def _bind(
    client: MlflowClient, model: LoggedModel, wanted: dict[str, Any], event: LoggedEvent, run_id: str, parent_id: str
) -> None:
    tested = {of_set: _tested(entry) for of_set, entry in (wanted.get("datasets") or {}).items()}
    points = []
    for name, value in numbers(wanted.get("metrics") or {}).items():
        dataset = tested.get(name.rpartition("/")[0])
        of = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
        points.append(Metric(name, value, event.milliseconds, 0, model_id=model.model_id, **of))
    if tested:
        context = [InputTag("mlflow.data.context", "evaluation")]
        client.log_inputs(run_id, [DatasetInput(dataset, context) for dataset in tested.values()])
    if points:
        client.log_batch(run_id, metrics=points)
    for owner in (run_id, parent_id):
        outputs = client.get_run(owner).outputs
        if not any(o.model_id == model.model_id for o in (outputs.model_outputs if outputs else [])):
            client.log_outputs(owner, [LoggedModelOutput(model.model_id, 0)])


def _tested(entry: dict[str, str]) -> Dataset:
    """Test images as a dataset; its digest is of what they are."""
    return Dataset(entry["name"], entry["digest"][:_DIGEST], "local", json.dumps({"evaluation": entry["digest"]}))


def _link_model_to_version(client: MlflowClient, version: ModelVersion) -> None:
    """The tag by which a model's page lists its versions; MLflow's server sets it, a database reached directly not."""
    model = client.get_logged_model(str(version.source).rpartition("/")[2])
    here = {"name": version.name, "version": int(version.version)}
    known = json.loads(model.tags.get("mlflow.modelVersions", "[]"))
    if here not in [entry | {"version": int(entry["version"])} for entry in known]:
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([*known, here])})


def point_alias(client: MlflowClient, name: str, alias: str, version: str, milliseconds: int) -> None:
    """Move the alias here, unless a later run has moved it already (an early run may be delivered late)."""
    tag = f"curatrain.alias_time.{alias}"
    registered = client.get_registered_model(name)
    if int(registered.tags.get(tag, 0)) > milliseconds and alias in registered.aliases:
        return
    client.set_registered_model_alias(name, alias, version)
    client.set_registered_model_tag(name, tag, str(milliseconds))
