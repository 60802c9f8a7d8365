"""Folders behind s3:// and the like as a source: the same rules as for a folder of this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from stages.base import StageError
from stages.crawl.folders import first_line, label_of
from stages.crawl.sources import FolderSource
from stages.crawl.storage import StoredFile, filesystem, stored_file
from stages.crawl.targets import Target


def list_remote(source: FolderSource) -> tuple[Any, str, list[StoredFile]]:
    """The file system, the folder's path in it, and every file below it, sorted by path.

    Raises StageError where the folder cannot be listed or holds no file.
    """
    try:
        system, root = filesystem(source.folder, source.storage_options)
        paths = sorted(system.find(root))
        files = [stored_file(system, path, source.folder) for path in paths]
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StageError(f"crawl.sources: '{source.folder}' cannot be read ({reason}); check the address") from None
    if not files:
        raise StageError(f"crawl.sources: '{source.folder}' holds no file; check the address")
    return system, root, files


def remote_digest(source: FolderSource) -> str:
    """SHA-256 over the path and version of every file."""
    _, _, files = list_remote(source)
    return hashlib.sha256("".join(f"{file.uri}\0{file.version}\n" for file in files).encode()).hexdigest()


def remote_targets(source: FolderSource, name: str) -> Iterator[Target]:
    """Every file as a target; captions are read here, pictures later."""
    system, root, files = list_remote(source)
    paths = {file.path for file in files}
    for file in files:
        sidecar = str(PurePosixPath(file.path).with_suffix(".txt"))
        wanted = source.caption == "sidecar" and sidecar in paths and sidecar != file.path
        yield Target(
            source=name,
            url=file.uri,
            version=file.version,
            place="file",
            caption=_caption(system, sidecar) if wanted else None,
            label=label_of(source, file.path.removeprefix(root).lstrip("/")),
            licence=source.licence,
            source_weight=source.weight,
        )


def _caption(system: Any, path: str) -> str | None:
    try:
        with system.open(path, "rb") as file:
            return first_line(file)
    except OSError:
        return None
