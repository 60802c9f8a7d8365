"""`curatrain compare RUN RUN`: the evaluations of earlier runs as one comparison, without running anything again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UsageError
from pipelines.references import find_artifact
from pipelines.spec import Spec, load_spec
from pipelines.store import Store
from stages.register.lineage import ancestors

_SEED = "pretrain.seed"
_FIRST = ("pretrain.objective.name", "curate.method", "pretrain.backbone", "pretrain.steps", "pretrain.batch")
"""Parameters that a variant is called after rather than after others."""

_MOST = 8


@dataclass(frozen=True)
class _Evaluated:
    """An evaluation of a run. reference: `run:RUN/STAGE`. params: of all that it came from, by `TYPE.PARAM`."""

    run: str
    reference: str
    key: str
    params: Mapping[str, Any]


def runs_spec(
    names: Sequence[str], store: Store, *, memorisation: bool = False, overrides: Iterable[str] = ()
) -> Spec:
    """A spec of one stage that compares the evaluations of runs.

    names: `RUN`, or `RUN/STAGE` where a run has several. Those that differ in nothing but the training's seed are
    repetitions of one variant; a variant is called after parameters that tell it from the others. The first is the
    baseline. memorisation: whether single images are scored. overrides: `compare.PARAM=VALUE`. Raises UsageError, and
    SpecError where an override does not fit.
    """
    overrides = list(overrides)
    for text in overrides:
        if not text.strip().startswith("compare."):
            raise UsageError(f"--set {text}: runs are compared as they are: only compare.PARAM can be set")
    found = [_evaluated(name, store) for name in names]
    if len({one.key for one in found}) < len(found):
        raise UsageError("an evaluation stands twice among them: give each run once, and at least two")
    differing = sorted(
        {k for one in found for k in one.params if k != _SEED and len({_text(o, k) for o in found}) > 1},
        key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key),
    )
    telling = _telling(found, differing)
    variants = [", ".join(_word(one, key) for key in telling) or one.run for one in found]
    cells = {
        f"e{n}": {"run": variant, "seed": _text(one, _SEED)}
        for n, (variant, one) in enumerate(zip(variants, found, strict=True))
    }
    if len({tuple(cell.values()) for cell in cells.values()}) < len(cells):
        raise UsageError("two of them have the same parameters and the same seed, and differ in the code alone")
    body: dict[str, Any] = {
        "uses": "compare",
        "cells": cells,
        "runs": {f"e{n}": one.reference for n, one in enumerate(found)},
        "baseline": {"run": variants[0]},
        "remarks": _besides([key for key in differing if key not in telling]),
    }
    if memorisation:
        body["memorisation"] = {}
    return load_spec({"name": "runs-compare", "stages": {"compare": body}}, overrides)


def _telling(found: Sequence[_Evaluated], differing: Sequence[str]) -> list[str]:
    """As few of the parameters, the first ones first, as tell apart all that any of them do."""

    def told_apart(keys: Sequence[str]) -> int:
        return len({tuple(_text(one, key) for key in keys) for one in found})

    telling: list[str] = []
    for key in differing:
        if told_apart([*telling, key]) > told_apart(telling):
            telling.append(key)
    return telling


def _text(one: _Evaluated, key: str) -> str:
    return str(one.params.get(key, "none"))


def _word(one: _Evaluated, key: str) -> str:
    """ "simclr", "batch 64"."""
    parameter = key.rpartition(".")[2]
    return _text(one, key) if parameter in ("name", "method") else f"{parameter} {_text(one, key)}"


def _besides(others: Sequence[str]) -> list[str]:
    more = f" and {len(others) - _MOST} more" if len(others) > _MOST else ""
    return [f"they differ in other parameters too: {', '.join(others[:_MOST])}{more}"] if others else []


def _evaluated(name: str, store: Store) -> _Evaluated:
    record, stage, artifact = find_artifact("metrics", f"run:{name}", store)
    params: dict[str, Any] = {}
    for ancestor in ancestors([artifact]):
        for param, value in ancestor.manifest.get("recipe", {}).get("params", {}).items():
            params |= _flat(f"{ancestor.type}.{param}", value)
    return _Evaluated(record.id, f"run:{record.id}/{stage}", artifact.key, params)


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {key: found for part, inner in value.items() for key, found in _flat(f"{name}.{part}", inner).items()}
