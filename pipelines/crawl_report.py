"""`curatrain crawl-report`: the ledger of a crawl for people, and for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipelines.errors import UsageError
from pipelines.runs import find_run
from stages.artifact import Artifact

_SHOWN = 20


def crawl_documents(store_url: str | None, name: str) -> list[dict[str, Any]]:
    """The ledger of every crawl of a run, or of one artifact `crawl/KEY`: by reason, host, format and time.

    Raises UsageError where there is none.
    """
    from stages.crawl.report import crawl_document

    found = _artifacts(store_url, name)
    if not found:
        raise UsageError(
            f"'{name}' holds no finished crawl; `curatrain runs` and `curatrain show RUN` name what there is"
        )
    return [
        {"stage": stage, "key": artifact.key, "path": str(artifact.path), **crawl_document(artifact.path)}
        for stage, artifact in found
    ]


def _artifacts(store_url: str | None, name: str) -> list[tuple[str, Artifact]]:
    from pipelines.api import open_store

    store = open_store(store_url)
    if "/" in name:
        type_name, _, start = name.partition("/")
        return [(type_name, a) for a in store.artifacts(type_name) if a.key.startswith(start) and a.kind == "fetches"]
    found = []
    for stage_name, stage in find_run(store, name).state().stages.items():
        artifact = store.find(stage.type, stage.key).artifact if stage.key else None
        if artifact is not None and artifact.kind == "fetches":
            found.append((stage_name, artifact))
    return found


def crawl_tables(documents: list[dict[str, Any]]) -> Group:
    """The documents as tables, the longest ones cut."""
    parts: list[Any] = []
    for document in documents:
        parts.append(Text(f"{document['stage']} {document['key'][:12]}", style="bold"))
        for name in ("reasons", "hosts", "formats", "throughput"):
            parts.append(_table(document[name]))
    return Group(*parts)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0] if rows else ():
        table.add_column(column, justify="right" if isinstance(rows[0][column], int | float) else "left")
    for row in rows[:_SHOWN]:
        table.add_row(*(Text(f"{v:,}" if isinstance(v, int) else str(v)) for v in row.values()))
    if len(rows) > _SHOWN:
        table.add_row(Text(f"... {len(rows) - _SHOWN:,} more with --json", style="dim"))
    return table
