"""Files of a source, on this machine or behind s3:// and the like: found by pattern, opened, told apart by version."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from stages.base import StageError
from stages.crawl.file_names import is_remote

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, tarfile.TarError, ValueError, KeyError)
"""What readers of damaged containers raise."""

_OPENERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class StoredFile:
    """A file of a source. uri: file:// URI or fsspec URL. version: size and what else says that it is unchanged."""

    uri: str
    path: str
    size: int
    version: str


def filesystem(path: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of a place and the path in it. Raises StageError where its package is missing."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(path, **options)
    except ImportError as error:
        raise StageError(f"crawl.sources: '{path}' cannot be read: {error}") from None


def find_files(pattern: str, wanted: Callable[[str], bool], options: Mapping[str, Any]) -> list[StoredFile]:
    """The files of a path, of a pattern (`*`, `{000..099}`), or directly in a folder, sorted by path.

    wanted: which names of a folder count. Raises StageError where there is none or they cannot be read.
    """
    try:
        system, _ = filesystem(pattern, options)
        found: dict[str, StoredFile] = {}
        for one in _braces(pattern):
            for path in _matches(system, one, wanted):
                found[path] = stored_file(system, path, pattern)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StageError(f"crawl.sources: '{pattern}' cannot be read ({reason}); correct the path") from None
    if not found:
        raise StageError(f"crawl.sources: '{pattern}' names no file that can be read; correct the path")
    return [found[path] for path in sorted(found)]


def _matches(system: Any, pattern: str, wanted: Callable[[str], bool]) -> list[str]:
    path = system._strip_protocol(pattern)
    if re.search(r"[*?\[]", path) and not system.exists(path):
        return [one for one in system.glob(path) if system.isfile(one)]
    if system.isdir(path):
        return [one for one in system.ls(path, detail=False) if wanted(one) and system.isfile(one)]
    return [path]


def _braces(pattern: str) -> list[str]:
    """`{000..011}` and `{a,b}` written out."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if numbers:
        first, last = numbers[1], numbers[2]
        items = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        items = match[1].split(",")
    return [rest for item in items for rest in _braces(pattern[: match.start()] + item + pattern[match.end() :])]


def stored_file(system: Any, path: str, place: str) -> StoredFile:
    """What is known of one file without reading it. Raises OSError where it is missing."""
    if not is_remote(place):
        from stages.crawl.folders import file_uri

        status = Path(path).stat()
        return StoredFile(file_uri(path), path, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")
    info = system.info(path)
    told = info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("checksum") or system.ukey(path)
    size = int(info.get("size") or 0)
    stamp = hashlib.sha256(str(told).encode()).hexdigest()[:16]
    return StoredFile(system.unstrip_protocol(path), path, size, f"{size}-{stamp}")


def files_digest(files: list[StoredFile]) -> str:
    """SHA-256 over the content of local files, and over the versions of remote ones."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.uri}\0".encode())
        if is_remote(file.uri) and not file.uri.startswith("file://"):
            digest.update(file.version.encode())
        else:
            with Path(file.path).open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def open_stored(uri: str, options: Mapping[str, Any]) -> BinaryIO:
    """The bytes of a file as they stand. Raises OSError."""
    if uri.startswith("file://"):
        from stages.crawl.folders import file_path

        return file_path(uri).open("rb")
    system, path = filesystem(uri, options)
    return cast(BinaryIO, system.open(path, "rb"))


def open_inflated(uri: str, options: Mapping[str, Any]) -> BinaryIO:
    """The content of a file, uncompressed if its suffix says that it is compressed. Raises OSError."""
    raw = open_stored(uri, options)
    suffix = Path(uri).suffix.lower()
    if suffix == ".zst":
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")))
    return cast(BinaryIO, _OPENERS[suffix](raw)) if suffix in _OPENERS else raw
