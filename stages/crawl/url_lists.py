"""Tables as a source: of URLs, or of the pictures themselves, in plain lines or in named columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stages.base import StageError
from stages.crawl.file_names import is_list
from stages.crawl.masks import MASK, mask_text
from stages.crawl.sources import Columns, UrlListSource
from stages.crawl.storage import DAMAGED, StoredFile, files_digest, find_files, open_stored
from stages.crawl.table_files import LINE, BinaryTable, is_binary, schema_of, text_rows
from stages.crawl.targets import Target

_USUAL = {
    "url": ("url", "image_url", "img_url", "image_link", "link", "uri", "src", "href"),
    "image": ("image", "img", "picture", "image_bytes", "bytes", "jpg", "jpeg", "png", "webp", "content"),
    "caption": ("caption", "text", "alt", "alt_text", "description", "title", "prompt"),
    "label": ("label", "class", "category", "class_name", "label_name"),
    "licence": ("licence", "license", "rights"),
    "mask": ("mask", "segmentation_mask"),
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Layout:
    """Which column of a file holds what; None where none does. names: values of integer labels."""

    url: str | None
    image: str | None
    caption: str | None
    label: str | None
    licence: str | None
    mask: str | None
    metadata: tuple[str, ...] | None
    names: Sequence[str] = ()

    def told(self) -> str:
        """The layout in words."""
        pairs = ((what, getattr(self, what)) for what in _USUAL)
        return ", ".join(f"{what} = {column}" for what, column in pairs if column and column != LINE)


def list_files(source: UrlListSource) -> list[StoredFile]:
    """The files of a source, sorted. Raises StageError where there is none."""
    return find_files(source.urls, is_list, source.storage_options)


def list_digest(source: UrlListSource) -> str:
    """Digest of the content of all files. Raises StageError where one is missing or unreadable."""
    try:
        return files_digest(list_files(source))
    except OSError as error:
        reason = error.strerror or error
        raise StageError(f"crawl.sources: '{source.urls}' cannot be read ({reason}); correct the path") from None


def list_targets(source: UrlListSource, name: str, say: Say = lambda _: None) -> Iterator[Target]:
    """Every row as a target; a row that names nothing to fetch keeps one "<file>#<number>" with its reason.

    say: called with a line on each file that says how it was understood.
    Raises StageError where a file is unreadable, no such format, or lacks the column.
    """
    for file in list_files(source):
        try:
            yield from _binary(source, name, file, say) if is_binary(file.uri) else _text(source, name, file, say)
        except DAMAGED as error:
            text = " ".join(str(error).split())[:200]
            raise StageError(
                f"crawl.sources: '{file.path}' cannot be read to its end: {text}; mend the file"
            ) from None


def _text(source: UrlListSource, name: str, file: StoredFile, say: Say) -> Iterator[Target]:
    layout = None
    for number, row in text_rows(file, source.storage_options):
        if layout is None:
            layout = _layout(source.columns, list(row), file)
            say(f"{name}: {file.path.rpartition('/')[2]} is a list of URLs ({layout.told() or 'one a line'})")
        if number:
            yield _web_target(source, name, row, layout, f"{file.uri}#{number}")


def _binary(source: UrlListSource, name: str, file: StoredFile, say: Say) -> Iterator[Target]:
    schema = schema_of(file, source.storage_options)
    layout = _layout(source.columns, schema.names, file, schema)
    what = "pictures in a table" if layout.image else "a list of URLs"
    say(f"{name}: {file.path.rpartition('/')[2]} holds {what} ({layout.told()})")
    columns = [
        column
        for column in schema.names
        if column != layout.image and (column == layout.mask or _small(schema.field(column).type))
    ]
    number = 0
    with open_stored(file.uri, source.storage_options) as opened:
        for group, first, batch in BinaryTable(opened, file.uri).batches(columns or [schema.names[0]]):
            for row, values in enumerate(batch.to_pylist(), first):
                place = f"table:{group}:{row}:{layout.image}" if layout.image else None
                yield _target(source, name, values, layout, f"{file.uri}#{number}", place, file.version)
                number += 1


def _small(type_: pa.DataType) -> bool:
    return not (pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or _is_picture(type_))


def _is_picture(type_: pa.DataType) -> bool:
    return pa.types.is_struct(type_) and any(type_.field(n).name == "bytes" for n in range(type_.num_fields))


def _target(
    source: UrlListSource, name: str, row: dict[str, Any], layout: _Layout, uri: str, place: str | None, version: str
) -> Target:
    if place is None:
        return _web_target(source, name, row, layout, uri)
    origin = _plain(row.get(layout.url or ""))
    return Target(name, uri, version, place, origin, **_texts(source, row, layout))


def _web_target(source: UrlListSource, name: str, row: dict[str, Any], layout: _Layout, uri: str) -> Target:
    url = _plain(row.get(layout.url or ""))
    if url is None:
        return Target(name, uri, outcome="failed:no_url", **_texts(source, row, layout))
    return Target(name, url, **_texts(source, row, layout))


def _texts(source: UrlListSource, row: dict[str, Any], layout: _Layout) -> dict[str, Any]:
    label = row.get(layout.label or "")
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(layout.names):
        label = layout.names[label]
    used = {layout.url, layout.image, layout.caption, layout.label, layout.licence}
    content = row.get(layout.mask or "")
    mask = mask_text(content)
    if mask is None and content is not None and source.columns.mask is not None:
        raise StageError(f"crawl.sources: column '{layout.mask}' of '{source.urls}' holds what is no PNG of a mask")
    used |= {layout.mask} if mask is not None or isinstance(content, dict) else set()
    kept = [column for column in (row if layout.metadata is None else layout.metadata) if column not in used]
    return {
        "caption": _plain(row.get(layout.caption or "")),
        "label": _plain(label),
        "licence": _plain(row.get(layout.licence or "")) or source.licence,
        "metadata": metadata({column: row.get(column) for column in kept} | ({MASK: mask} if mask else {})),
        "source_weight": source.weight,
    }


def metadata(values: dict[str, Any]) -> str | None:
    """Values as a JSON object with sorted keys, without those that say nothing; None if none is left."""
    kept = {
        key: value
        for key, value in values.items()
        if value is not None and value != "" and not isinstance(value, bytes)
    }
    return json.dumps(kept, sort_keys=True, ensure_ascii=False, default=str) if kept else None


def _layout(columns: Columns, names: Sequence[str], file: StoredFile, schema: pa.Schema | None = None) -> _Layout:
    """Columns as the user names them, else by their usual names. Raises StageError where one is not there."""
    found: dict[str, Any] = {}
    for what, usual in _USUAL.items():
        given = getattr(columns, what)
        if given is not None and given not in names:
            raise StageError(
                f"crawl.sources: '{file.path}' has no column '{given}'; "
                f"set columns.{what} to one of {', '.join(names)}"
            )
        found[what] = given or _usual(usual, names)
    if columns.image is None:
        found["image"] = _picture_column(schema, found["image"], found["mask"])
    if LINE in names:
        found["url"] = LINE
    if found["url"] is None and found["image"] is None:
        raise StageError(
            f"crawl.sources: '{file.path}' has no column 'url'; set columns.url to one of {', '.join(names)}"
        )
    kept = None if columns.metadata == "all" else () if columns.metadata == "none" else columns.metadata
    return _Layout(**found, metadata=kept, names=_class_names(schema, found["label"]))


def _usual(usual: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name, in lower case, comes first among the usual ones."""
    by_name = {name.lower(): name for name in reversed(names)}
    return next((by_name[name] for name in usual if name in by_name), None)


def _picture_column(schema: pa.Schema | None, guess: str | None, mask: str | None) -> str | None:
    """The column of encoded pictures: the guess if it holds bytes, else the only struct with a field `bytes`."""
    if schema is None:
        return None
    if guess is not None and not pa.types.is_string(schema.field(guess).type):
        type_ = schema.field(guess).type
        if _is_picture(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
            return guess
    structs = [field.name for field in schema if _is_picture(field.type) and field.name != mask]
    return structs[0] if len(structs) == 1 else None


def _class_names(schema: pa.Schema | None, label: str | None) -> Sequence[str]:
    """Names of integer labels, where the file has them as Hugging Face data sets do."""
    if schema is None or label is None:
        return ()
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _plain(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, list):
        value = next((item for item in value if item), None)
    return re.sub(r"\s+", " ", str(value)).strip() or None if value is not None else None
