"""The list of what a crawl is going to fetch: found once, saved, and then worked off in parts of fixed size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from stages.base import committed


@dataclass(frozen=True)
class Target:
    """One thing to fetch, or a note about one that will not be.

    url: http(s) URL, or file:// URI. version: "size-mtime_ns" of a file.
    outcome: set where it is known already: "skipped:<reason>" or "failed:<reason>".
    """

    source: str
    url: str
    version: str = ""
    page_url: str | None = None
    caption: str | None = None
    label: str | None = None
    outcome: str | None = None
    http_status: int | None = None


def unique(targets: Iterable[Target]) -> list[Target]:
    """The targets without those whose URL the same source named before."""
    seen: set[tuple[str, str]] = set()
    result = []
    for target in targets:
        if (target.source, target.url) not in seen:
            seen.add((target.source, target.url))
            result.append(target)
    return result


def save(path: Path, targets: list[Target], part_rows: int) -> None:
    """Commit the list, with the size of the parts that it will be fetched in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {field.name: pa.int32() if field.name == "http_status" else pa.string() for field in fields(Target)}
    table = pa.Table.from_pylist([asdict(target) for target in targets], schema=pa.schema(list(types.items())))
    with committed(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"part_rows": str(part_rows)}), temporary, compression="zstd")


def load(path: Path) -> tuple[list[Target], int]:
    """The saved list and its part size."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return [Target(**row) for row in table.to_pylist()], int(table.schema.metadata[b"part_rows"])
