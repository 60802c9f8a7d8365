"""Where artifacts are kept: staged in parts, committed by their manifest, never changed after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from pipelines.errors import StoreError
from pipelines.recipe import canonical
from stages.artifact import Artifact, artifact_at

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Found:
    """The answer to "is there an artifact of this key": the artifact, or what is wrong with what is there."""

    artifact: Artifact | None
    damage: str = ""


class Store:
    """A store in a local folder (or on a mounted file system).

    objects/<type>/<key>/ immutable artifacts; staging/<type>/<key>/ parts in progress; runs/<run>/ records;
    locks/, pins/, trash/.
    """

    def __init__(self, url: str | Path) -> None:
        filesystem, root = fsspec.url_to_fs(str(Path(url).expanduser()) if "://" not in str(url) else str(url))
        if "file" not in filesystem.protocol and "local" not in filesystem.protocol:
            raise StoreError(
                f"the store {url} is on '{filesystem.protocol}'; this version keeps its store on a local or mounted "
                "folder: give --store a path"
            )
        self.root = Path(root).resolve()

    def prepare(self) -> None:
        """Make the store's folders and see that they can be written. Raises StoreError."""
        try:
            for name in ("objects", "staging", "runs", "locks", "pins"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written ({error.strerror}): "
                "choose another with --store or CURATRAIN_STORE"
            ) from None

    def object_path(self, type_name: str, key: str) -> Path:
        return self.root / "objects" / type_name / key

    def staging_path(self, type_name: str, key: str) -> Path:
        return self.root / "staging" / type_name / key

    def lock_path(self, type_name: str, key: str) -> Path:
        return self.root / "locks" / f"{type_name}-{key}.lock"

    def find(self, type_name: str, key: str, verify: bool = False) -> Found:
        """The committed artifact of a key, if it is there and whole: every file has its size (and, with `verify`,
        its SHA-256)."""
        path = self.object_path(type_name, key)
        try:
            manifest = json.loads((path / MANIFEST).read_text())
        except FileNotFoundError:
            return Found(None)
        except (OSError, ValueError) as error:
            return Found(None, f"its manifest cannot be read: {error}")
        if (path / "tainted").exists():
            return Found(None, "it was marked as tainted")
        for file in manifest["files"]:
            problem = _damage(path / file["path"], file, verify)
            if problem:
                return Found(None, f"{file['path']} {problem}")
        return Found(artifact_at(path, manifest))

    def has_parts(self, type_name: str, key: str) -> bool:
        """Whether an interrupted attempt has left finished parts."""
        staging = self.staging_path(type_name, key)
        return staging.is_dir() and any(p.is_file() and not p.name.startswith(".") for p in staging.rglob("*"))

    def artifacts(self, type_name: str | None = None) -> Iterator[Artifact]:
        """Every committed artifact (of a type), newest first."""
        pattern = f"{type_name or '*'}/*/{MANIFEST}"
        for path in sorted((self.root / "objects").glob(pattern), key=lambda p: (-p.stat().st_mtime_ns, str(p))):
            try:
                yield artifact_at(path.parent, json.loads(path.read_text()))
            except (OSError, ValueError, KeyError):
                continue

    def family(self, type_name: str, family: str, besides: str) -> list[Artifact]:
        """Whole artifacts of a family but for the key `besides`, newest first."""
        found = (a for a in self.artifacts(type_name) if a.manifest.get("family") == family and a.key != besides)
        return [a for a in found if self.find(type_name, a.key).artifact is not None]

    def commit(self, type_name: str, key: str, manifest: dict[str, Any]) -> Artifact:
        """Make the staged folder the artifact of `key`: list its files, write the manifest last, rename.

        An object that is already there is damaged (else it would have been reused) and goes to the trash first.
        """
        staging, target = self.staging_path(type_name, key), self.object_path(type_name, key)
        for leftover in staging.rglob(".*.tmp"):
            leftover.unlink()
        manifest = {**manifest, "key": key, "digest": manifest["digest"] or key, "files": _list_files(staging)}
        temporary = staging / f".{MANIFEST}.tmp"
        with temporary.open("w") as file:
            json.dump(manifest, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(staging / MANIFEST)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            self.discard(target)
        staging.rename(target)
        return artifact_at(target, manifest)

    def discard(self, path: Path) -> None:
        """Move a folder of the store to the trash."""
        trash = self.root / "trash"
        trash.mkdir(exist_ok=True)
        path.rename(trash / f"{path.parent.name}-{path.name}-{time.time_ns()}")

    def empty_trash(self) -> None:
        """Delete what was moved to the trash."""
        shutil.rmtree(self.root / "trash", ignore_errors=True)


def _list_files(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return [
        {"path": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "sha256": _hash_file(p)} for p in paths
    ]


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damage(path: Path, file: dict[str, Any], verify: bool) -> str:
    try:
        size = path.stat().st_size
    except OSError:
        return "is missing"
    if size != file["size"]:
        return f"has {size} bytes, not {file['size']}"
    if verify and _hash_file(path) != file["sha256"]:
        return "has other content than when it was committed"
    return ""


def digest_of(document: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()
