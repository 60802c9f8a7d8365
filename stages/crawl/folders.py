"""Folders as a source: a listing that never goes round in circles, its digest, and the files' labels and captions."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from stages.base import StageError
from stages.crawl.masks import MASK, mask_of
from stages.crawl.sources import FolderSource
from stages.crawl.targets import Target

_CAPTION_BYTES = 4096


@dataclass
class Listing:
    """What stands below a folder.

    files: (path relative to the folder, size, mtime_ns), sorted by path.
    skipped: (relative path, reason) of what cannot be listed, or was listed under another name, sorted.
    """

    files: list[tuple[str, int, int]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def list_folder(folder: str) -> Listing:
    """List every file below `folder`. A symbolic link counts only where what it points at is not listed already.

    Raises StageError where the folder is missing or unreadable.
    """
    try:
        status = Path(folder).stat()
        walk = _Walk(folder, (status.st_dev, status.st_ino))
    except OSError as error:
        raise StageError(_unreadable(folder, error)) from None
    return walk.listing()


def _unreadable(folder: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"crawl.sources: folder '{folder}' does not exist; correct the path"
    if isinstance(error, NotADirectoryError):
        return (
            f"crawl.sources: '{folder}' is a file, not a folder; give a folder, a table (.csv .parquet ...) or tar "
            "files"
        )
    return f"crawl.sources: folder '{folder}' cannot be read ({error.strerror}); check its permissions"


class _Walk:
    """Real files and folders first, then links in sorted order, each thing once."""

    def __init__(self, root: str, root_id: tuple[int, int]) -> None:
        self._result = Listing()
        self._folders = {root_id}
        self._files: set[tuple[int, int]] = set()
        self._links: list[tuple[str, str]] = []
        self._scan(root, "")

    def listing(self) -> Listing:
        while self._links:
            links, self._links = sorted(self._links), []
            for path, relative in links:
                self._follow(path, relative)
        self._result.files.sort()
        self._result.skipped.sort()
        return self._result

    def _scan(self, top: str, prefix: str) -> None:
        pending = [(top, prefix)]
        while pending:
            folder, inside = pending.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        pending.extend(self._enter(entry, inside + entry.name))
            except OSError as error:
                if not inside:
                    raise
                self._result.skipped.append((inside, f"unreadable:{error.strerror}"))

    def _enter(self, entry: os.DirEntry[str], relative: str) -> Iterator[tuple[str, str]]:
        if entry.is_symlink():
            self._links.append((entry.path, relative))
        elif entry.is_dir():
            if self._new_folder(entry.stat()):
                yield entry.path, relative + "/"
        elif entry.is_file():
            self._add(relative, entry.stat())

    def _follow(self, path: str, relative: str) -> None:
        try:
            status = Path(path).stat()
        except OSError:
            self._result.skipped.append((relative, "broken_link"))
            return
        if stat.S_ISDIR(status.st_mode):
            if self._new_folder(status):
                self._scan(path, relative + "/")
        elif (status.st_dev, status.st_ino) in self._files:
            self._result.skipped.append((relative, "linked_twice"))
        elif stat.S_ISREG(status.st_mode):
            self._add(relative, status)

    def _new_folder(self, status: os.stat_result) -> bool:
        key = (status.st_dev, status.st_ino)
        new = key not in self._folders
        self._folders.add(key)
        return new

    def _add(self, relative: str, status: os.stat_result) -> None:
        self._files.add((status.st_dev, status.st_ino))
        self._result.files.append((relative, status.st_size, status.st_mtime_ns))


def listing_digest(*folders: str) -> str:
    """SHA-256 over the sorted listings: relative path, size and modification time of every file."""
    digest = hashlib.sha256()
    for number, folder in enumerate(folders):
        digest.update(b"\0" * min(number, 1))
        for relative, size, mtime_ns in list_folder(folder).files:
            digest.update(os.fsencode(relative) + f"\0{size}\0{mtime_ns}\n".encode())
    return digest.hexdigest()


def folder_targets(source: FolderSource, name: str) -> Iterator[Target]:
    """Every file of the folder as a target; captions are read here, pictures later."""
    texts: dict[str, Any] = {"licence": source.licence, "source_weight": source.weight}
    listing = list_folder(source.folder)
    masks = {relative for relative, _, _ in list_folder(source.masks).files} if source.masks else set()
    captions = {relative for relative, _, _ in listing.files if relative.endswith(".txt")}
    for relative, size, mtime_ns in listing.files:
        if source.masks and Path(source.folder, relative).is_relative_to(source.masks):
            continue
        mask = mask_of(source.masks, relative, masks) if source.masks else None
        sidecar = str(PurePosixPath(relative).with_suffix(".txt"))
        wanted = source.caption == "sidecar" and sidecar in captions and sidecar != relative
        yield Target(
            source=name,
            url=file_uri(f"{source.folder}/{relative}"),
            version=f"{size}-{mtime_ns}",
            place="file",
            caption=_caption(f"{source.folder}/{sidecar}") if wanted else None,
            label=label_of(source, relative),
            metadata=json.dumps({MASK: mask}) if mask else None,
            **texts,
        )
    for relative, reason in listing.skipped:
        code = reason.partition(":")[0]
        kind = "failed" if code == "unreadable" else "skipped"
        yield Target(source=name, url=file_uri(f"{source.folder}/{relative}"), outcome=f"{kind}:{code}", **texts)


def file_uri(path: str) -> str:
    """file:// URI of an absolute path; bytes that are no text stay as percent escapes."""
    return "file://" + quote_from_bytes(os.fsencode(path))


def file_path(uri: str) -> Path:
    """The path of a URI made by `file_uri`."""
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


def label_of(source: FolderSource, relative: str) -> str | None:
    """Label of a file by the folders on its path."""
    folders = relative.split("/")[:-1]
    if source.label == "none" or not folders:
        return None
    depth = len(folders) if source.label_depth is None else min(source.label_depth, len(folders))
    return os.fsencode(folders[depth - 1]).decode("utf-8", "replace")


def _caption(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return first_line(file)
    except OSError:
        return None


def first_line(file: BinaryIO) -> str | None:
    """The first line of a text that says anything; None if there is none."""
    lines = file.read(_CAPTION_BYTES).decode("utf-8-sig", "replace").strip().splitlines()
    return lines[0].strip() or None if lines else None
