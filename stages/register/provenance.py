"""What the tables of a model's ancestors say of its data: rows kept and dropped, licences and hosts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from stages.register.lineage import Ancestor
from stages.tables import SchemaError, part_paths, read_table

Counts = dict[tuple[str, ...], int]


@dataclass(frozen=True)
class DataCounts:
    """Counts over the pool that a model was trained on, largest first; images of evaluation sets are not in it.

    sources: images by source. fetched: fetches that brought bytes. failed: fetches that failed, by reason. rejected:
    files that were no usable image, by reason. roles: images by role and reason of the selection.
    licences, hosts: of the images that trained, by what their source says of its licence, and by the host that they
    came from; "" where nothing is said, or no network was involved.
    """

    sources: Counts
    fetched: int
    failed: Counts
    rejected: Counts
    roles: Counts
    licences: Counts
    hosts: Counts


def data_counts(chain: Sequence[Ancestor]) -> DataCounts:
    """Count what the ancestors' tables hold; a table that is gone from the store counts as empty."""
    pool = training_pool(chain)
    fetches = _count(pool, "fetches", ["status", "reason"])
    selected = _columns(pool, "selection", ["image_id", "role"])
    trained = pa.chunked_array([], pa.string())
    if selected is not None:
        trained = selected.filter(pc.equal(selected["role"], "train"))["image_id"]
    return DataCounts(
        sources=_count(pool, "images", ["source"]),
        fetched=sum(n for (status, _), n in fetches.items() if status == "ok"),
        failed={(reason or status,): n for (status, reason), n in fetches.items() if status != "ok"},
        rejected=_count(pool, "rejected", ["reason"]),
        roles=_count(pool, "selection", ["role", "reason"]),
        licences=_count_of(pool, "images", "image_id", "licence", trained),
        hosts=_count_of(pool, "fetches", "sha256", "host", trained),
    )


def training_pool(chain: Sequence[Ancestor]) -> list[Ancestor]:
    """The selections and images that went into shards, with all that the images came from; sources first.

    Where no shards are left in the store, the whole chain.
    """
    known = {(ancestor.type, ancestor.key): ancestor for ancestor in chain}
    shards = [ancestor for ancestor in chain if ancestor.manifest.get("kind") == "shards"]
    parents = {parent for ancestor in shards for parent in ancestor.parents}
    wanted = {name for name in parents if part_paths(known[name].path, "selection")}
    queue = [name for name in parents if part_paths(known[name].path, "images")]
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += known[name].parents
    return [ancestor for ancestor in chain if not shards or (ancestor.type, ancestor.key) in wanted]


def _count(chain: Iterable[Ancestor], name: str, columns: list[str]) -> Counts:
    return _counted(_columns(chain, name, columns), columns)


def _count_of(chain: Iterable[Ancestor], name: str, id_column: str, column: str, ids: pa.ChunkedArray) -> Counts:
    """Values of a column, each image of `ids` once."""
    table = _columns(chain, name, [id_column, column])
    if table is None:
        return {}
    rows = table.filter(pc.is_in(table[id_column], value_set=ids.combine_chunks()))
    once = rows.group_by(id_column, use_threads=False).aggregate([(column, "min")]).rename_columns([id_column, column])
    return _counted(once, [column])


def _columns(chain: Iterable[Ancestor], name: str, columns: list[str]) -> pa.Table | None:
    tables = []
    for ancestor in chain:
        try:
            tables.append(read_table(ancestor.path, name, columns))
        except (SchemaError, OSError, pa.ArrowException):
            continue
    return pa.concat_tables(tables) if tables else None


def _counted(table: pa.Table | None, columns: list[str]) -> Counts:
    if table is None:
        return {}
    grouped = table.group_by(columns).aggregate([([], "count_all")])
    counts: Counts = {}
    groups = zip(*(grouped[column].to_pylist() for column in columns), strict=True)
    for group, count in zip(groups, grouped["count_all"].to_pylist(), strict=True):
        name_of = tuple(value or "" for value in group)
        counts[name_of] = counts.get(name_of, 0) + count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
