"""The reading side of an artifact: an immutable folder of the store with its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Artifact:
    """A committed artifact.

    kind: what it holds (`images`, `embeddings`, `checkpoint`, ...).
    key: address in the store, made from the recipe. digest: digest of the content that matters downstream.
    path: local folder. manifest: the parsed `manifest.json`.
    """

    kind: str
    stage: str
    key: str
    digest: str
    path: Path
    manifest: dict[str, Any]

    def table(self, columns: Sequence[str] | None = None, name: str | None = None) -> pa.Table:
        """The table of this artifact (or its side table `name`), checked against its schema.

        Raises `stages.tables.SchemaError` where a file does not have the declared columns.
        """
        from stages.tables import read_table

        return read_table(self.path, name or self.kind, columns)


def artifact_at(path: Path, manifest: dict[str, Any]) -> Artifact:
    """The artifact in a folder, by its manifest."""
    return Artifact(manifest["kind"], manifest["type"], manifest["key"], manifest["digest"], path, manifest)
