"""Parameters that name another run's artifact, `run:RUN` or `run:RUN/STAGE`, and the folders that they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from pipelines.errors import UsageError
from pipelines.runs import RunRecord, find_run
from pipelines.spec import Spec, StageSpec
from pipelines.store import Store
from stages.artifact import Artifact
from stages.registry import stage_class

_PREFIX = "run:"


def pinned(spec: Spec, store: Store) -> Spec:
    """The spec with every reference by full id and stage, so that `latest` means the same run for ever.

    Raises UsageError where there is no such run, or where it does not hold one artifact that fits.
    """

    def name(kind: str, reference: str) -> str:
        record, stage, _ = find_artifact(kind, reference, store)
        return f"{_PREFIX}{record.id}/{stage}"

    return _mapped(spec, name)


def located(spec: Spec, store: Store) -> Spec:
    """The spec with the artifact's folder in place of every reference. Raises UsageError like `pinned`."""
    return _mapped(spec, lambda kind, reference: str(find_artifact(kind, reference, store)[2].path))


def _mapped(spec: Spec, change: Callable[[str, str], str]) -> Spec:
    return replace(spec, stages={name: _changed(stage, change) for name, stage in spec.stages.items()})


def _changed(stage: StageSpec, change: Callable[[str, str], str]) -> StageSpec:
    params = stage.stage.params
    updates: dict[str, Any] = {}
    for name, field in type(params).model_fields.items():
        extra = field.json_schema_extra
        kind = extra.get("artifact") if isinstance(extra, dict) else None
        value = getattr(params, name)
        if not isinstance(kind, str):
            continue
        try:
            if isinstance(value, str) and value.startswith(_PREFIX):
                updates[name] = change(kind, value)
            elif isinstance(value, dict):
                updates[name] = {k: change(kind, v) if v.startswith(_PREFIX) else v for k, v in value.items()}
        except UsageError as error:
            raise UsageError(f"{stage.name}.{name}: {error}") from None
    return replace(stage, stage=type(stage.stage)(params.model_copy(update=updates))) if updates else stage


def find_artifact(kind: str, reference: str, store: Store) -> tuple[RunRecord, str, Artifact]:
    """The run, the stage and the artifact that a reference means. Raises UsageError."""
    run, _, wanted = reference.removeprefix(_PREFIX).partition("/")
    record = find_run(store, run)
    makers = {name: state for name, state in record.state().stages.items() if stage_class(state.type).output == kind}
    if wanted and wanted not in makers:
        raise UsageError(f"run {record.id} has no stage '{wanted}' that makes a {kind}; it has: {_listed(makers)}")
    if not wanted and len(makers) != 1:
        raise UsageError(f"run {record.id} has {len(makers)} stages that make a {kind}; say which: {_listed(makers)}")
    name = wanted or next(iter(makers))
    state = makers[name]
    artifact = store.find(state.type, state.key).artifact if state.key else None
    if artifact is None:
        raise UsageError(f"run {record.id} has no finished artifact of stage '{name}'")
    return record, name, artifact


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
