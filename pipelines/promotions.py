"""Which model holds which alias, as the store knows it: one record for each promotion, never changed but when told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.store import Store
from stages.base import committed

_FOLDER = "promotions"


@dataclass(frozen=True)
class Promotion:
    """A model that got an alias.

    time: ISO 8601. name: of the registered model. key: of its register artifact. over: key of the model whose place
    it took, or "". checks: the gate's conditions in words. reason: what the person said, or "". told: the tracking
    URI of the MLflow that has heard of it, or "".
    """

    time: str
    name: str
    alias: str
    key: str
    over: str = ""
    checks: Sequence[str] = field(default_factory=tuple)
    reason: str = ""
    told: str = ""

    @property
    def file_name(self) -> str:
        """A name that sorts by time."""
        return f"{self.time.replace(':', '')}-{self.key[:12]}.json"

    @property
    def milliseconds(self) -> int:
        """When it was, in milliseconds since the epoch."""
        return int(datetime.fromisoformat(self.time).timestamp() * 1000)


def promotions(root: Path) -> list[Promotion]:
    """Every promotion of the store at `root`, oldest first."""
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        fields: dict[str, Any] = json.loads(path.read_text())
        found.append(Promotion(**{**fields, "checks": tuple(fields["checks"])}))
    return found


def holder(root: Path, name: str, alias: str) -> Promotion | None:
    """The promotion by which a model holds an alias now, or None."""
    return next((p for p in reversed(promotions(root)) if (p.name, p.alias) == (name, alias)), None)


def record_promotion(store: Store, promotion: Promotion) -> Promotion:
    """Write a promotion down, stamped with the time, and pin its model, which `gc` then keeps with all ancestors."""
    stamped = replace(promotion, time=datetime.now(UTC).isoformat())
    pin = {"type": "register", "key": stamped.key, "why": f"{stamped.name}@{stamped.alias}"}
    with committed(store.root / "pins" / f"{stamped.alias}-{stamped.name}.json") as temporary:
        temporary.write_text(json.dumps(pin, indent=1))
    _write(store.root, stamped)
    return stamped


def mark_told(root: Path, promotion: Promotion, uri: str) -> None:
    """Note that MLflow at `uri` has heard of it."""
    _write(root, replace(promotion, told=uri))


def _write(root: Path, promotion: Promotion) -> None:
    with committed(root / _FOLDER / promotion.file_name) as temporary:
        temporary.write_text(json.dumps(asdict(promotion), indent=1))
