"""`curatrain gc`: what no kept run, pin or registered model needs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.locks import is_locked
from pipelines.runs import RunRecord, list_runs
from pipelines.store import Store


@dataclass(frozen=True)
class Garbage:
    """A folder of the store that nothing needs. kind: object | staging."""

    kind: str
    type: str
    key: str
    path: Path
    size: int


def find_garbage(store: Store, keep_runs: int, min_age: float = 0.0) -> list[Garbage]:
    """Objects that neither the last `keep_runs` runs of each pipeline, nor running runs, nor pins (with all their
    ancestors) need, and staged parts that no living process holds; both older than `min_age` seconds."""
    needed = _needed(store, keep_runs)
    cutoff = time.time() - min_age
    found = []
    for path in sorted((store.root / "objects").glob("*/*")):
        if (path.parent.name, path.name) not in needed and path.stat().st_mtime <= cutoff:
            found.append(Garbage("object", path.parent.name, path.name, path, _size(path)))
    for path in sorted((store.root / "staging").glob("[!.]*/*")):
        held = is_locked(store.lock_path(path.parent.name, path.name))
        if not held and path.stat().st_mtime <= cutoff and not _resumable(store, path.name, keep_runs):
            found.append(Garbage("staging", path.parent.name, path.name, path, _size(path)))
    return found


def sweep(store: Store, garbage: Iterable[Garbage]) -> int:
    """Move garbage to the trash and empty it; returns the bytes freed."""
    freed = 0
    for item in garbage:
        if not is_locked(store.lock_path(item.type, item.key)):
            store.discard(item.path)
            freed += item.size
    store.empty_trash()
    return freed


def _needed(store: Store, keep_runs: int) -> set[tuple[str, str]]:
    roots: list[tuple[str, str]] = []
    for run in _kept(store, keep_runs):
        roots += [(stage.type, stage.key) for stage in run.state().stages.values() if stage.key]
    for pin in (store.root / "pins").glob("*.json"):
        data = json.loads(pin.read_text())
        roots.append((data["type"], data["key"]))
    for path in (store.root / "registrations").glob("*.json"):
        roots.append(("register", path.stem))
    needed: set[tuple[str, str]] = set()
    while roots:
        type_name, key = roots.pop()
        if (type_name, key) in needed:
            continue
        needed.add((type_name, key))
        artifact = store.find(type_name, key).artifact
        if artifact is not None:
            roots += [(i["stage"], i["key"]) for i in artifact.manifest["inputs"]]
    return needed


def _kept(store: Store, keep_runs: int) -> list[RunRecord]:
    counts: dict[str, int] = {}
    kept = []
    for run in list_runs(store):
        pipeline = run.head()["pipeline"]
        counts[pipeline] = counts.get(pipeline, 0) + 1
        if counts[pipeline] <= keep_runs or run.state().status == "running":
            kept.append(run)
    return kept


def _resumable(store: Store, key: str, keep_runs: int) -> bool:
    return any(key == stage.key for run in _kept(store, keep_runs) for stage in run.state().stages.values())


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
