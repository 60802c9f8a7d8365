"""Aliases of the model registry: who holds one, and moving it to where a promotion put it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipelines.promotions import Promotion, mark_told
from pipelines.tracking.address import tracking_uri
from pipelines.tracking.connection import connect, refused
from pipelines.tracking.launch import read_registration, untold_promotions
from pipelines.tracking.redaction import public_address, redacted
from pipelines.tracking.registration import point_alias
from pipelines.tracking.values import TAG_LIMIT, clipped


@dataclass(frozen=True)
class Holder:
    """The model version behind an alias. key: of the artifact that it was made from, or "". record: its figures in
    the form of `metrics.json`, from its tags and its logged model."""

    version: str
    key: str
    record: dict[str, Any]


def registered_holder(store: Path, name: str, alias: str) -> Holder | None:
    """Who holds an alias in the registry, or None. Raises what MLflow raises where it is unreachable."""
    client = connect(store)
    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return Holder(str(version.version), version.tags.get("curatrain.key", ""), _record(client, version))


def _record(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    tags = version.tags
    digests = {name: tags[f"split.{name}"] for name in ("bank", "queries") if f"split.{name}" in tags}
    metrics = {}
    if version.model_id:
        metrics = {metric.key: metric.value for metric in client.get_logged_model(version.model_id).metrics or []}
    return {"protocol": {"id": tags.get("protocol", "unknown")}, "split": {"digests": digests}, "metrics": metrics}


def tell_promotions(store: Path) -> int:
    """Move the registry's aliases as the store's promotions have it; returns how many it took.

    One that the registry refuses (its version was deleted there) is recorded as refused and not tried again. Raises
    what MLflow raises where it is unreachable; what was told until then stays told.
    """
    waiting = untold_promotions(store)
    if not waiting:
        return 0
    client, taken = connect(store), 0
    for promotion in waiting:
        try:
            _move(client, store, promotion)
        except Exception as error:
            if not refused(error):
                raise
            told = redacted(error)
            print(f"refused {promotion.name}@{promotion.alias}: {told}", file=sys.stderr, flush=True)  # noqa: T201
            mark_told(store, promotion, clipped(f"refused: {told}", TAG_LIMIT))
        else:
            mark_told(store, promotion, public_address(tracking_uri(store)))
            taken += 1
    return taken


def _move(client: MlflowClient, store: Path, promotion: Promotion) -> None:
    registration = read_registration(store, promotion.key)
    assert registration is not None, "untold promotions have a registration"
    version, alias = str(registration["version"]), promotion.alias
    tags = {f"curatrain.gate.{alias}": "; ".join(promotion.checks), f"curatrain.promoted.{alias}": promotion.time}
    if promotion.reason:
        tags[f"curatrain.reason.{alias}"] = promotion.reason
    for key, value in tags.items():
        client.set_model_version_tag(promotion.name, version, key, clipped(value, TAG_LIMIT))
    point_alias(client, promotion.name, alias, version, promotion.milliseconds)
