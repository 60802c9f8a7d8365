"""What earlier crawls of the same family hold: whole files of the table to share, and single rows to take over."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from stages.artifact import Artifact
from stages.base import committed
from stages.crawl.ledger import OTHERS, Row, base_row, other_row
from stages.crawl.reasons import Reason, in_classes
from stages.crawl.targets import SeenKeys, Target, TargetList, row_key
from stages.tables import FETCHES, part_paths
from stages.takedowns import Takedowns

_LISTED = ("source", "source_weight", "url", "version", "page_url", "caption", "label", "licence", "metadata")
_INDEXED = ("url", "version", "status", "reason", "etag", "last_modified")
_SHARED = "part-shared-"


@dataclass(frozen=True)
class Held:
    """Where an earlier row stands, and what decides whether it serves.

    fresh: whether its crawl has the same `refresh` as this one.
    """

    part: str
    row: int
    status: str
    reason: str | None
    etag: str | None
    last_modified: str | None
    fresh: bool


class Earlier:
    """Rows of earlier crawls, by URL and version; the index is on disk. Use as a context manager.

    artifacts: newest first. refresh: rows of crawls with another value are only the ground of conditional requests.
    retry: classes of failures to try again (see `stages.crawl.reasons.check_class`).
    """

    def __init__(
        self, artifacts: Sequence[Artifact], refresh: str, retry: Iterable[str], takedowns: Takedowns, work: Path
    ) -> None:
        self._retry = frozenset(retry)
        self._takedowns = takedowns
        self._work = work
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._fresh = [a for a in artifacts if _refresh_of(a) == refresh]
        self._stale = [a for a in artifacts if _refresh_of(a) != refresh]
        self._path = work / f".earlier-{uuid4().hex}.sqlite.tmp"
        self._shared_rows = 0
        self.count = 0
        """Rows taken over so far, shared ones included."""

    def __enter__(self) -> Earlier:
        self._path.unlink(missing_ok=True)
        self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-32000"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE held (key BLOB PRIMARY KEY, part TEXT, row INT, status TEXT, reason TEXT, etag TEXT, "
            "last_modified TEXT, fresh INT) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE shared (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        seen: set[tuple[int, int]] = set()
        for fresh, artifacts in ((True, self._fresh), (False, self._stale)):
            for path in (path for artifact in artifacts for path in part_paths(artifact.path, FETCHES.name)):
                identity = (path.stat().st_dev, path.stat().st_ino)
                if identity not in seen:
                    seen.add(identity)
                    self._index(path, fresh)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)

    def _index(self, path: Path, fresh: bool) -> None:
        columns = _columns(path, _INDEXED)
        rows = (
            (row_key(url, version), str(path), row, *rest, fresh)
            for row, (url, version, *rest) in enumerate(zip(*columns, strict=True))
        )
        # Before a refresh, a picture counts for more than a newer failure: a conditional request can go on from it.
        self._database.executemany(
            "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET part = excluded.part, "
            "row = excluded.row, status = excluded.status, reason = excluded.reason, etag = excluded.etag, "
            "last_modified = excluded.last_modified, fresh = excluded.fresh "
            "WHERE held.fresh = 0 AND held.status <> 'ok' AND excluded.status = 'ok'",
            rows,
        )

    def _held(self, target: Target) -> Held | None:
        if not self._fresh and not self._stale:
            return None
        found = self._database.execute(
            "SELECT part, row, status, reason, etag, last_modified, fresh FROM held WHERE key = ?",
            (row_key(target.url, target.version),),
        ).fetchone()
        return Held(*found) if found else None

    def shares(self, target: Target) -> bool:
        """Whether a file that `share` linked holds the target's row."""
        if self._shared_rows == 0 or target.outcome is not None:
            return False
        return self._database.execute("SELECT 1 FROM shared WHERE key = ?", (target.key(),)).fetchone() is not None

    def row(self, target: Target) -> Row | None:
        """The row of a target that needs no attempt: its outcome is known, or it was fetched before and what it gave
        then still serves, with the texts of now. None for all others."""
        if target.outcome is not None:
            status, _, reason = target.outcome.partition(":")
            return other_row(target, status, reason, http_status=target.http_status)
        held = self._held(target)
        if self._takedowns.names(target.url, target.origin):
            return other_row(
                target, "skipped", Reason.TAKEDOWN, sha256=self._row(held, target)["sha256"] if held else None
            )
        if held is None or not self._serves(held, target):
            return None
        self.count += 1
        return self._takedowns.apply(self._row(held, target))

    def _serves(self, held: Held, target: Target) -> bool:
        if held.status == "ok":
            return held.fresh or bool(target.version)  # an unchanged file needs no second look
        again = held.reason in (Reason.TAKEDOWN, Reason.PRIVATE_ADDRESS, Reason.PAGE)
        return held.fresh and not again and not in_classes(held.reason or "", self._retry)

    def validators(self, target: Target) -> dict[str, str]:
        """Headers of a conditional request (RFC 9110, 13.1) for a picture from before a refresh, if there is one."""
        held = self._held(target)
        if held is None or held.status != "ok" or held.fresh:
            return {}
        headers = {"If-None-Match": held.etag, "If-Modified-Since": held.last_modified}
        return {name: value for name, value in headers.items() if value}

    def unchanged_row(self, target: Target, **fields: Any) -> Row:
        """The row of a target whose server answered 304 to `validators`: the earlier bytes, the attempt of now."""
        held = self._held(target)
        assert held is not None
        now = {name: value for name, value in fields.items() if value is not None}
        row = {**self._row(held, target), "reason": Reason.UNCHANGED, **base_times(target), **now}
        return self._takedowns.apply(row)

    def _row(self, held: Held, target: Target) -> Row:
        file = pq.ParquetFile(held.part)
        group, row = 0, held.row
        while row >= file.metadata.row_group(group).num_rows:
            row -= file.metadata.row_group(group).num_rows
            group += 1
        place = (held.part, group)
        if place not in self._groups:
            self._groups[place] = file.read_row_group(group)
            if len(self._groups) > 3:
                self._groups.popitem(last=False)
        self._groups.move_to_end(place)
        old = self._groups[place].slice(row, 1).to_pylist()[0]
        texts = {name: value for name, value in base_row(target).items() if name in _LISTED}
        return {**old, **texts}

    def share(self, targets: TargetList) -> None:
        """Link those files of fresh crawls into the table of which every row is wanted as it stands. Decided once: a
        crawl that goes on after a crash keeps what it shared."""
        note = self._work / "shared.json"
        if not note.exists():
            shared = self._link(targets) if self._fresh else []
            with committed(note) as temporary:
                temporary.write_text(json.dumps(shared))
        for path in (self._work / FETCHES.name).glob(f"{_SHARED}*"):
            keys = zip(*_columns(path, ("source", "url")), strict=True)
            self._database.executemany("INSERT INTO shared VALUES (?)", ((row_key(*key),) for key in keys))
        self._shared_rows = self._database.execute("SELECT count(*) FROM shared").fetchone()[0]
        self.count += self._shared_rows

    def _link(self, targets: TargetList) -> list[str]:
        for stale in (self._work / FETCHES.name).glob(f"{_SHARED}*"):
            stale.unlink()
        names = []
        with _keys(self._work / ".wanted.tmp") as wanted, _keys(self._work / ".linked.tmp") as linked:
            for target in targets:
                if target.outcome is None and not self._takedowns.names(target.url):
                    wanted.add(row_key(*(getattr(target, name) for name in _LISTED)))
            for path in (path for artifact in self._fresh for path in part_paths(artifact.path, FETCHES.name)):
                rows = _picture_rows(path, self._takedowns)
                if rows and all(key in wanted and key not in linked for key in rows):
                    names.append(_link_file(path, rows, self._work / FETCHES.name))
                    for key in rows:
                        linked.add(key)
        return names


def base_times(target: Target) -> Row:
    """The times and host of an attempt that is made now."""
    return {name: base_row(target)[name] for name in ("started_at", "fetched_at")}


@contextmanager
def _keys(path: Path) -> Iterator[SeenKeys]:
    path.unlink(missing_ok=True)
    keys = SeenKeys(path)
    try:
        yield keys
    finally:
        keys.close()
        path.unlink()


def _refresh_of(artifact: Artifact) -> str:
    return str(artifact.manifest.get("params", {}).get("refresh", ""))


def _columns(path: Path, names: Sequence[str]) -> list[list[Any]]:
    table = pq.read_table(path, columns=list(names))
    return [table[name].to_pylist() for name in names]


def _picture_rows(path: Path, takedowns: Takedowns) -> list[bytes]:
    """Keys of what the list said of each row of a file; none where it must not be shared whole."""
    if path.stem.endswith(OTHERS):
        return []
    columns = dict(
        zip((*_LISTED, "final_url", "sha256"), _columns(path, (*_LISTED, "final_url", "sha256")), strict=True)
    )
    for url, final_url, digest in zip(columns["url"], columns["final_url"], columns["sha256"], strict=True):
        if takedowns.names(url, final_url, digest):
            return []
    return [row_key(*row) for row in zip(*(columns[name] for name in _LISTED), strict=True)]


def _link_file(path: Path, rows: Sequence[bytes], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{_SHARED}{sha256(b''.join(sorted(rows))).hexdigest()[:20]}.parquet"
    with committed(folder / name) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, temporary)
    return name
