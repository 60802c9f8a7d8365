"""The catalogue of objectives: names, papers, parameters. Importable without torch.

`catalogue.json` is generated from the objectives' classes: `python -m training.objectives.catalogue` writes it.
Objectives of other packages come by the entry-point group `curatrain.objectives`; asking for one imports it.
"""

from __future__ import annotations

import difflib
import functools
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from training.objectives.parameters import filled, over

ENTRY_POINTS = "curatrain.objectives"
_PATH = Path(__file__).with_name("catalogue.json")


def names() -> list[str]:
    """Every objective that can be named, sorted: ours and those of installed plug-ins."""
    return sorted({*_built_in(), *_plug_ins()})


def describe(name: str) -> dict[str, Any]:
    """What is known of an objective.

    Keys: name, title, summary, paper, arxiv, family, module, backbone ("any" or "vit"), batch ("least" that it needs
    and the "paper"'s), prefers_balanced, takes (values of `ViewNeeds`), views (the default recipe's values), small
    (values of its `SmallRecipe`), first_weights (what a vision transformer starts from), schema (JSON schema of its
    parameters, with defaults).
    Raises ValueError with the nearest names where there is no such objective.
    """
    if name in _built_in():
        return _built_in()[name]
    if name in _plug_ins():
        from training.objectives.description import described

        return described(_plug_ins()[name].load(), name)
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise ValueError(f"there is no objective '{name}'; {hint}available: {', '.join(names())}")


def resolve(spec: str | dict[str, Any], small: bool = False) -> dict[str, Any]:
    """The full form of an objective given as "simclr" or as {"name": "simclr", "temperature": 0.2}.

    small: fill in what the objective's small recipe has before its defaults.
    Returns the name with every parameter, defaults filled in. Raises ValueError that lists all mistakes.
    """
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(
            f"an objective needs its name, such as {{name: {names()[0]}}}; available: {', '.join(names())}"
        )
    schema = describe(name)["schema"]
    parameters, problems = filled(schema, over(describe(name)["small"]["objective"], given) if small else given)
    if problems:
        raise ValueError(f"objective '{name}': " + "; ".join(problems))
    for key, field in schema.get("properties", {}).items():
        if field.get("objectives"):
            parameters[key] = [
                _weighted(term, f"objective '{name}': {key}[{i}]", small) for i, term in enumerate(parameters[key])
            ]
    return {"name": name, **parameters}


def _weighted(term: dict[str, Any], place: str, small: bool) -> dict[str, Any]:
    """The full form of an objective that is a term of another."""
    spec = dict(term)
    weight = spec.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
        raise ValueError(f"{place}.weight: {weight!r} is not a number >= 0")
    return {**resolve(spec, small), "weight": float(weight)}


def parts(spec: dict[str, Any]) -> list[str]:
    """Names of an objective in its full form and of all that are terms of it."""
    inner = [term for value in spec.values() if isinstance(value, list) for term in value if isinstance(term, dict)]
    return [spec["name"], *(name for term in inner if "name" in term for name in parts(term))]


@functools.cache
def _built_in() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(_PATH.read_text())}


@functools.cache
def _plug_ins() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


if __name__ == "__main__":
    from training.objectives.description import catalogue_text

    _PATH.write_text(catalogue_text())
