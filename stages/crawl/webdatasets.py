"""WebDataset tar files as a source: the files of a sample stand together under one name.

The convention is that of webdataset (github.com/webdataset/webdataset): a member's key is its path up to the first
dot of its last part, and what follows that dot says what it holds.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from typing import Any
from urllib.parse import quote

from stages.base import StageError
from stages.crawl.file_names import is_tar
from stages.crawl.masks import MASK, mask_text
from stages.crawl.reading import TAR, TAR_STREAM
from stages.crawl.reasons import Reason
from stages.crawl.sources import WebDatasetSource
from stages.crawl.storage import DAMAGED, StoredFile, files_digest, find_files, open_inflated
from stages.crawl.targets import Target
from stages.crawl.url_lists import Say, metadata

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jxl", "heic", "img", "ppm"})
_CAPTIONS = ("txt", "caption", "text")
_LABELS = ("cls", "label")
_LONGEST_TEXT = 1_000_000
_MASKS = ("mask.png", "seg.png")
_LARGEST_MASK = 16_000_000

Member = tuple[str, str, str, str | bytes]
"""Key, what it holds, name, and place of a picture or content of a text."""


def dataset_digest(source: WebDatasetSource) -> str:
    """Digest of the content of all tar files. Raises StageError where one is missing or unreadable."""
    try:
        return files_digest(_files(source))
    except OSError as error:
        reason = error.strerror or error
        raise StageError(f"crawl.sources: '{source.webdataset}' cannot be read ({reason}); correct the path") from None


def dataset_targets(source: WebDatasetSource, name: str, say: Say = lambda _: None) -> Iterator[Target]:
    """Every picture of every sample as a target; where an archive breaks off, one more says so."""
    files = _files(source)
    say(f"{name}: {len(files)} tar files of samples")
    for file in files:
        try:
            for _, members in groupby(_members(file, source), key=lambda member: member[0]):
                yield from _sample(source, name, file, list(members))
        except DAMAGED:
            yield Target(name, file.uri, outcome=f"failed:{Reason.DAMAGED_CONTAINER}", source_weight=source.weight)


def _files(source: WebDatasetSource) -> list[StoredFile]:
    return find_files(source.webdataset, is_tar, source.storage_options)


def _members(file: StoredFile, source: WebDatasetSource) -> Iterator[Member]:
    compressed = not file.path.lower().endswith(".tar")
    with (
        open_inflated(file.uri, source.storage_options) as opened,
        tarfile.open(fileobj=opened, mode="r|" if compressed else "r:") as archive,
    ):
        for number, member in enumerate(archive):
            if not member.isfile():
                continue
            folder, slash, last = member.name.rpartition("/")
            stem, _, holds = last.partition(".")
            kind = holds.lower().rpartition(".")[2]
            key = folder + slash + stem
            if holds.lower() in _MASKS and member.size <= _LARGEST_MASK:
                content = archive.extractfile(member)
                yield key, MASK, member.name, content.read() if content else b""
            elif kind in _IMAGES:
                place = f"{TAR_STREAM}:{number}" if compressed else f"{TAR}:{member.offset_data}:{member.size}"
                yield key, kind, member.name, place
            elif kind in (*_CAPTIONS, *_LABELS, "json") and member.size <= _LONGEST_TEXT:
                text = archive.extractfile(member)
                yield key, kind, member.name, text.read() if text else b""
            else:
                yield key, "", member.name, b""
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header


def _sample(source: WebDatasetSource, name: str, file: StoredFile, members: list[Member]) -> Iterator[Target]:
    texts = {kind: content for _, kind, _, content in members if isinstance(content, bytes)}
    about = _json(texts.get("json"))
    caption = _first(texts, _CAPTIONS) or _text(about.pop("caption", None))
    label = _first(texts, _LABELS) or _text(about.pop("label", None))
    licence = _text(about.pop("licence", None) or about.pop("license", None)) or source.licence
    origin = _text(about.pop("url", None))
    if mask := mask_text(texts.get(MASK)):
        about[MASK] = mask
    pictures = [(member, place) for _, _, member, place in members if isinstance(place, str)]
    for member, place in pictures:
        yield Target(
            source=name,
            url=f"{file.uri}#{quote(member)}",
            version=file.version,
            place=place,
            origin=origin,
            caption=caption,
            label=label,
            licence=licence,
            metadata=metadata(about),
            source_weight=source.weight,
        )
    if not pictures:
        yield Target(
            name, f"{file.uri}#{quote(members[0][2])}", outcome="skipped:no_picture", source_weight=source.weight
        )


def _json(content: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(content or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _first(texts: dict[str, bytes], kinds: tuple[str, ...]) -> str | None:
    return next((_text(texts[kind].decode("utf-8", "replace")) for kind in kinds if kind in texts), None)


def _text(value: Any) -> str | None:
    return None if value is None else " ".join(str(value).split()) or None
