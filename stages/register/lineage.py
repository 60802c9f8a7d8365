"""The artifacts that a model came from, walked through their manifests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.artifact import Artifact


@dataclass(frozen=True)
class Ancestor:
    """An artifact on the way to a model.

    type: stage type. parents: (type, key) of its inputs. manifest: as committed; empty where it is gone from the
    store, and `path` may then not exist.
    """

    type: str
    key: str
    digest: str
    path: Path
    parents: tuple[tuple[str, str], ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)


def ancestors(artifacts: Iterable[Artifact]) -> list[Ancestor]:
    """The artifacts and all that they were made from, each once, sources first (ties by type, then key)."""
    found: dict[tuple[str, str], Ancestor] = {}
    queue = []
    for artifact in artifacts:
        _add(found, artifact.stage, artifact.key, artifact.digest, artifact.path, artifact.manifest)
        queue.append(found[artifact.stage, artifact.key])
    while queue:
        child = queue.pop()
        for item in child.manifest.get("inputs", ()):
            if (item["stage"], item["key"]) in found:
                continue
            path = child.path.parent.parent / item["stage"] / item["key"]
            _add(found, item["stage"], item["key"], item["digest"], path, _read_manifest(path))
            queue.append(found[item["stage"], item["key"]])
    return _sources_first(found)


def _add(
    found: dict[tuple[str, str], Ancestor], type_name: str, key: str, digest: str, path: Path, manifest: dict[str, Any]
) -> None:
    parents = tuple((item["stage"], item["key"]) for item in manifest.get("inputs", ()))
    found[type_name, key] = Ancestor(type_name, key, digest, path, parents, manifest)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}


def _sources_first(found: dict[tuple[str, str], Ancestor]) -> list[Ancestor]:
    depth: dict[tuple[str, str], int] = {}

    def depth_of(name: tuple[str, str]) -> int:
        if name not in depth:
            depth[name] = 1 + max((depth_of(parent) for parent in found[name].parents), default=-1)
        return depth[name]

    return [found[name] for name in sorted(found, key=lambda name: (depth_of(name), name))]
