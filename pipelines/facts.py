"""What the planner must know of the world: code fingerprints, external inputs, and earlier artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipelines.fingerprint import code_fingerprint
from pipelines.planner import Facts, Lookup
from pipelines.recipe import keyed_params, pool_params
from pipelines.runs import list_runs
from pipelines.spec import Spec, StageSpec
from pipelines.store import MANIFEST, Store
from stages.artifact import Artifact
from stages.base import StageError
from stages.registry import stage_targets


def stage_facts(stage: StageSpec) -> Facts:
    """Look at what a stage depends on outside the store. What cannot be read becomes `Facts.error`."""
    module = stage_targets()[stage.type].partition(":")[0]
    code = code_fingerprint([module, *stage.stage.code_modules()])
    params, pool = keyed_params(stage.stage.params), pool_params(type(stage.stage.params))
    try:
        return Facts(code, params, pool, stage.stage.externals())
    except StageError as error:
        return Facts(code, params, pool, error=str(error))
    except OSError as error:
        return Facts(code, params, pool, error=f"{error.strerror}: {error.filename}")


def all_facts(spec: Spec) -> dict[str, Facts]:
    """The facts of every stage."""
    return {name: stage_facts(stage) for name, stage in spec.stages.items()}


def store_lookup(store: Store, pipeline: str) -> Lookup:
    """The planner's questions, answered from a store; "previous" means the last run of the same pipeline."""
    keys = _previous_keys(store, pipeline)
    return Lookup(partial(_find, store), store.has_parts, partial(_previous, store, keys))


def _find(store: Store, type_name: str, key: str) -> tuple[Artifact | None, str]:
    found = store.find(type_name, key)
    return found.artifact, found.damage


def _previous(store: Store, keys: Mapping[str, str], stage: str, type_name: str) -> Mapping[str, Any] | None:
    if stage not in keys:
        return None
    try:
        return json.loads((store.object_path(type_name, keys[stage]) / MANIFEST).read_text())
    except (OSError, ValueError):
        return None


def _previous_keys(store: Store, pipeline: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for run in list_runs(store):
        try:
            if run.head()["pipeline"] != pipeline:
                continue
            found = json.loads((run.path / "keys.json").read_text())
        except (OSError, ValueError, KeyError):
            continue
        keys = {**found, **keys}
    return keys
