"""Folders that are a whole checkpoint or not there: digests, commit by rename, and which ones stay."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
VALUES = "state.json"
_NAME = re.compile(r"^step-(\d{9,})$")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is of another model."""


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest, the best by a metric, and those of every so many steps."""

    keep_last: int = 2
    keep_best: int = 0
    metric: str | None = None
    higher_is_better: bool = True
    keep_every: int = 0

    def __post_init__(self) -> None:
        if self.keep_last < 1 or self.keep_best < 0 or self.keep_every < 0:
            raise ValueError("keep_last is at least 1, keep_best and keep_every at least 0")
        if self.keep_best and not self.metric:
            raise ValueError("keep_best needs the name of the metric that says which ones are best")

    def kept(self, scores: Mapping[int, float | None]) -> set[int]:
        """Those of the given steps that stay. scores: the metric at each step, or None; ties go to the earlier."""
        newest = sorted(scores)[-self.keep_last :]
        regular = [step for step in scores if self.keep_every and step % self.keep_every == 0]
        return {*newest, *regular, *self.ranked(scores)[: self.keep_best]}

    def ranked(self, scores: Mapping[int, float | None]) -> list[int]:
        """The steps that have the metric, best first."""
        sign = -1.0 if self.higher_is_better else 1.0
        known = [(sign * score, step) for step, score in scores.items() if score is not None and math.isfinite(score)]
        return [step for _, step in sorted(known)]


def folder_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` finished steps is, once committed."""
    return folder / f"step-{step:09d}"


def staging_of(folder: Path, step: int) -> Path:
    """Where it is written."""
    return folder / f".step-{step:09d}.tmp"


def committed_steps(folder: Path) -> list[int]:
    """Steps of the committed checkpoints, oldest first; whether they are intact is for `damage` to say."""
    found = [_NAME.match(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def write_synced(path: Path, value: Any) -> None:
    """Write JSON and have it on disk before returning."""
    with path.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on disk before returning."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(
    folder: Path, step: int, files: Mapping[str, tuple[int, str]], metrics: Mapping[str, float], world: int
) -> Path:
    """Write the manifest of what lies in the staging folder, and rename it to its final name."""
    staging, final = staging_of(folder, step), folder_of(folder, step)
    content = {
        "step": step,
        "world": world,
        "metrics": dict(metrics),
        "files": {name: list(files[name]) for name in sorted(files)},
    }
    write_synced(staging / MANIFEST, {**content, "sha256": _digest_of(content)})
    sync_folder(staging)
    if final.exists():
        _remove(final)
    staging.rename(final)
    sync_folder(folder)
    return final


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint folder, or None where it is missing or damaged."""
    try:
        content = json.loads((path / MANIFEST).read_bytes())
        stated = content.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return content if stated == _digest_of(content) else None


def damage(path: Path, part: int = 0, parts: int = 1) -> str | None:
    """What is wrong with a checkpoint folder, in words, or None. Looks into every `parts`-th file from `part` on."""
    manifest = read_manifest(path)
    if manifest is None:
        return f"{path.name}: its manifest is missing or damaged"
    if manifest["step"] != int(path.name.removeprefix("step-")):
        return f"{path.name}: its manifest is of step {manifest['step']}"
    for name in sorted(manifest["files"])[part::parts]:
        file = path / name
        if not file.is_file():
            return f"{path.name}: {name} is missing"
        if digest(file) != tuple(manifest["files"][name]):
            return f"{path.name}: {name} is damaged"
    return None


def newest_intact(folder: Path, step: int | None = None) -> tuple[Path | None, list[str]]:
    """The newest checkpoint folder whose files all match its manifest, and what is wrong with those after it.

    step: look at this one only.
    """
    skipped: list[str] = []
    for found in reversed(committed_steps(folder)):
        if step is not None and found != step:
            continue
        wrong = damage(folder_of(folder, found))
        if wrong is None:
            return folder_of(folder, found), skipped
        skipped.append(wrong)
    return None, skipped


def best_step(folder: Path, retention: Retention) -> int | None:
    """The step of the best committed checkpoint by the metric, or None where none has it."""
    manifests = {step: read_manifest(folder_of(folder, step)) for step in committed_steps(folder)}
    scores = {step: manifest["metrics"].get(retention.metric) for step, manifest in manifests.items() if manifest}
    return next(iter(retention.ranked(scores)), None)


def prune(folder: Path, retention: Retention, latest: int) -> None:
    """Remove the checkpoints that need not stay after that of step `latest` was committed.

    Those of later steps are damaged, or training would have gone on from them: they go, so that they push none out.
    """
    scores: dict[int, float | None] = {}
    for step in (step for step in committed_steps(folder) if step <= latest):
        manifest = read_manifest(folder_of(folder, step))
        if manifest is not None:
            scores[step] = manifest["metrics"].get(retention.metric)
    for step in set(committed_steps(folder)) - retention.kept(scores):
        _remove(folder_of(folder, step))


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed training left half written or half removed."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    """Take a checkpoint away under its name first, so that half of one never bears it."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
