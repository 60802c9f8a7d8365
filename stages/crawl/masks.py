"""Masks of pictures: PNG files of class numbers that travel in the metadata of their pictures, as base64."""

from __future__ import annotations

import base64
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from stages.base import StageError

MASK = "mask"
"""Key of a mask in the metadata of its picture."""

_PNG = b"\x89PNG\r\n\x1a\n"


def mask_text(content: object) -> str | None:
    """A PNG file as text, from its bytes or from {"bytes": ...}; None of anything else."""
    found = content.get("bytes") if isinstance(content, dict) else content
    return base64.b64encode(found).decode() if isinstance(found, bytes) and found.startswith(_PNG) else None


def mask_of(folder: str, relative: str, files: Collection[str]) -> str | None:
    """The mask of a picture: the PNG of its path within `folder`, or of its stem where that has no folders.

    files: paths of all files below `folder`. None where there is no mask. Raises StageError where one is no PNG.
    """
    path = PurePosixPath(relative).with_suffix(".png")
    name = next((name for name in (str(path), path.name) if name in files), None)
    if name is None:
        return None
    text = mask_text((Path(folder) / name).read_bytes())
    if text is None:
        raise StageError(f"crawl.sources: mask '{folder}/{name}' is no PNG; a mask is a PNG of class numbers")
    return text
