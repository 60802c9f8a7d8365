"""What the name of a file or place says: the kind of table or archive, and where it is."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
TEXT_LISTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
BINARY_TABLES = (".parquet", ".arrow", ".ipc", ".feather")
LIST_SUFFIXES = (*TEXT_LISTS, *BINARY_TABLES)
TAR_SUFFIXES = (".tar", *(f".tar{suffix}" for suffix in COMPRESSIONS), ".tgz")


def is_list(path: str) -> bool:
    """Whether a name is that of a table that can be read, compressed or not."""
    return bare_suffix(path) in LIST_SUFFIXES


def is_tar(path: str) -> bool:
    """Whether a name is that of a tar file, compressed or not."""
    return path.lower().endswith(TAR_SUFFIXES)


def bare_suffix(path: str) -> str:
    """The suffix of a name below that of its compression, in lower case: ".csv" of "a.csv.gz"."""
    name = Path(urlsplit(path).path if "://" in path else path).name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix


def absolute(path: str) -> str:
    """Absolute and without `~`, so that another process in another folder means the same place; URLs stay."""
    if path.lower().startswith("file://"):
        path = path[len("file://") :]
    return path if is_remote(path) else str(Path(path).expanduser().absolute())


def is_remote(path: str) -> bool:
    """Whether a place is behind a protocol such as s3://, and not on this machine's file system."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def known_place(path: str) -> str:
    """The place, absolute if it is local. Raises ValueError where its protocol is none of a file system."""
    if is_remote(path):
        import fsspec

        protocol = path.partition("://")[0].lower()
        if protocol in ("http", "https", "data") or protocol not in fsspec.available_protocols():
            raise ValueError(
                f"'{path}': '{protocol}://' is no file system that can be read here; local paths, s3://, gs://, hf:// "
                "and others that fsspec knows can"
            )
    return absolute(path)
