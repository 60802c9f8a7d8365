"""The models that are held against each other image by image, and the artifacts that they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from stages.artifact import Artifact, artifact_at


@dataclass(frozen=True)
class Model:
    """name: what tells it from the others. metrics: its evaluation."""

    name: str
    metrics: Artifact


def chosen_models(variants: Mapping[str, Mapping[str, Artifact]], repeats: str, most: int) -> list[Model]:
    """The first repetition of each variant, then the second ones, up to `most`; variants in the order given.

    variants: of each the evaluations by repetition. repeats: what repetitions are of, such as "seed".
    """
    ranked = [
        (place, Model(name if len(runs) == 1 else f"{name}, {repeats} {repeat}", runs[repeat]))
        for name, runs in variants.items()
        for place, repeat in enumerate(sorted(runs))
    ]
    return [model for _, model in sorted(ranked, key=lambda entry: entry[0])[:most]]


def made_from(artifact: Artifact, name: str) -> Artifact | None:
    """The input `name` of an artifact; None where it has none, or where the store no longer holds it."""
    for item in artifact.manifest.get("inputs", ()):
        if item["name"] == name:
            path = artifact.path.parent.parent / item["stage"] / item["key"]
            try:
                return artifact_at(path, json.loads((path / "manifest.json").read_text()))
            except (OSError, ValueError, KeyError):
                return None
    return None
