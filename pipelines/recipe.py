"""What made an artifact, and the key that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

FORMAT = 1
"""Version of the key's format. A change makes every artifact new, so it is announced, never silent."""


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str) -> str:
    """SHA-256 of a text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_recipe(
    type_name: str,
    version: int,
    code: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    externals: Mapping[str, str],
    attempt: int = 0,
) -> dict[str, Any]:
    """The recipe of an artifact: everything that its content depends on, by value or by digest."""
    recipe: dict[str, Any] = {
        "format": FORMAT,
        "type": type_name,
        "version": version,
        "code": code,
        "params": dict(params),
        "inputs": dict(inputs),
        "externals": dict(externals),
    }
    if attempt:
        recipe["attempt"] = attempt
    return recipe


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """The artifact's address: SHA-256 of the canonical recipe."""
    return sha256(canonical(recipe))


def family_key(recipe: Mapping[str, Any], pool: frozenset[str]) -> str:
    """What an artifact shares with those whose rows it may take over: the recipe without inputs, external inputs,
    attempt and the parameters `pool` that only say which rows."""
    params = {name: value for name, value in recipe["params"].items() if name not in pool}
    return sha256(canonical({k: recipe[k] for k in ("format", "type", "version", "code")} | {"params": params}))


def keyed_params(params: BaseModel) -> dict[str, Any]:
    """The parameters that affect the result, as JSON data; fields marked `{"key": False}` are left out, nested too."""
    data = params.model_dump(mode="json")
    for name, field in type(params).model_fields.items():
        if _mark(field, "key"):
            data.pop(name, None)
        elif isinstance(getattr(params, name), BaseModel):
            data[name] = keyed_params(getattr(params, name))
    return data


def pool_params(params: type[BaseModel]) -> frozenset[str]:
    """Names of the parameters marked `{"family": False}`."""
    return frozenset(name for name, field in params.model_fields.items() if _mark(field, "family"))


def _mark(field: Any, mark: str) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, Mapping) and extra.get(mark) is False
