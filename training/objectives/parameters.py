"""Check an objective's parameters against the JSON schema in the catalogue, and fill in the defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}
_BOUNDS = {
    "minimum": (">=", lambda value, bound: value >= bound),
    "exclusiveMinimum": (">", lambda value, bound: value > bound),
    "maximum": ("<=", lambda value, bound: value <= bound),
    "exclusiveMaximum": ("<", lambda value, bound: value < bound),
}


def filled(schema: Schema, values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`values` with every default filled in, and one line for each mistake (empty when there is none)."""
    problems: list[str] = []
    result = _object(schema, values, schema.get("$defs", {}), "", problems)
    return result, problems


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` with what it lacks from `below`, in mappings within mappings too."""
    merged = dict(below)
    for key, value in above.items():
        inner = below.get(key)
        nested = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = over(inner, value) if nested else value  # type: ignore[arg-type]
    return merged


def _object(schema: Schema, values: dict[str, Any], defs: Schema, path: str, problems: list[str]) -> dict[str, Any]:
    properties: Schema = schema.get("properties", {})
    for key in values:
        if key not in properties:
            near = difflib.get_close_matches(str(key), list(properties), n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"allowed: {', '.join(properties) or 'none'}"
            problems.append(f"{path}{key}: no such parameter; {hint}")
    result = {}
    for key, prop in properties.items():
        default = prop.get("default")
        if key in values or "default" in prop:
            given = values.get(key, default)
            if isinstance(given, dict) and isinstance(default, dict):
                given = {**default, **given}  # the rest keeps this objective's defaults, not the part's own
            result[key] = _value(prop, given, defs, f"{path}{key}", problems)
        else:
            problems.append(f"{path}{key}: must be given")
    return result


def _value(schema: Schema, value: Any, defs: Schema, path: str, problems: list[str]) -> Any:
    if "$ref" in schema:
        schema = {**defs[schema["$ref"].rsplit("/", 1)[-1]], **{k: v for k, v in schema.items() if k != "$ref"}}
    if "anyOf" in schema:
        return _any_of(schema["anyOf"], value, defs, path, problems)
    if "enum" in schema or "const" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        if value not in allowed:
            problems.append(f"{path}: {value!r} is not one of {', '.join(map(repr, allowed))}")
        return value
    kind = schema.get("type")
    if kind is None:
        return value
    if not _is_a(kind, value):
        problems.append(f"{path}: {value!r} is not {_described(schema)}")
        return value
    if kind == "object" and "properties" in schema:
        return _object(schema, value, defs, f"{path}.", problems)
    if kind == "array" and len(value) < schema.get("minItems", 0):
        problems.append(f"{path}: a list of {schema['minItems']} or more is needed")
    if kind == "array" and "items" in schema:
        return [_value(schema["items"], item, defs, f"{path}[{i}]", problems) for i, item in enumerate(value)]
    if any(name in schema and not holds(value, schema[name]) for name, (_, holds) in _BOUNDS.items()):
        problems.append(f"{path}: {value!r} is not {_described(schema)}")
    return float(value) if kind == "number" else value


def _is_a(kind: str, value: object) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _any_of(options: list[Schema], value: Any, defs: Schema, path: str, problems: list[str]) -> Any:
    for option in options:
        tried: list[str] = []
        result = _value(option, value, defs, path, tried)
        if not tried:
            return result
    problems.append(f"{path}: {value!r} is not {' or '.join(_described(option) for option in options)}")
    return value


def _described(schema: Schema) -> str:
    words = {"integer": "an integer", "number": "a number", "array": "a list", "object": "a mapping", "null": "null"}
    kind = words.get(schema.get("type", ""), f"a {schema.get('type')}")
    bounds = [f"{sign} {schema[name]}" for name, (sign, _) in _BOUNDS.items() if name in schema]
    return " ".join([kind, " and ".join(bounds)]).strip()
