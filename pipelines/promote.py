"""`curatrain promote`: a model gets an alias, such as champion, where the gate holds."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines import tracking
from pipelines.errors import UsageError
from pipelines.promotions import Promotion, holder, record_promotion
from pipelines.runs import find_run
from pipelines.store import Store
from stages.artifact import Artifact
from stages.register import RegisterParams
from stages.register.gate import WAIVABLE, Evidence, Verdict, judge


@dataclass(frozen=True)
class Promoted:
    """What came of a promotion.

    model: name of the registered model. key: of its register artifact. over: what held the alias, or "". verdict: the
    gate's, None where the model holds the alias already. moved: whether it was given the alias now. mlflow: what
    MLflow was told, or why it was not.
    """

    model: str
    key: str
    alias: str
    over: str
    verdict: Verdict | None
    moved: bool = False
    mlflow: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.verdict is None or self.verdict.passed

    @property
    def sentence(self) -> str:
        """What came of it, for a person."""
        what, place = f"{self.model} {self.key[:12]}", f"{self.model}@{self.alias}"
        if self.verdict is None:
            text = f"{what} is {place} already"
        elif not self.passed:
            text = f"{what} does not become {place}: the gate does not hold"
        elif not self.moved:
            text = f"{what} would become {place}"
        else:
            text = f"{what} is {place} now" + (f", in the place of {self.over}" if self.over else "")
        return f"{text}; {self.mlflow}" if self.mlflow else text

    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        checks = [vars(check) for check in self.verdict.checks] if self.verdict else []
        return {**vars(self), "verdict": checks, "passed": self.passed, "sentence": self.sentence}


def promote(
    store: Store,
    name: str,
    alias: str = "champion",
    *,
    measures: Sequence[str] = ("knn", "linear"),
    waive: Sequence[str] = (),
    reason: str = "",
    dry_run: bool = False,
) -> Promoted:
    """Give the model `name` the alias if it passes the gate against the one that holds it.

    name: a run, `register/KEY`, `MODEL@ALIAS` or `MODEL/VERSION`. waive: checks that need not hold, which wants a
    reason. The store's record counts and is made first; MLflow is told now, or by the next run's mirror.
    Raises UsageError where there is no such model, or a waiver has no reason.
    """
    for check in waive:
        if check not in WAIVABLE:
            raise UsageError(f"--waive {check}: only {' and '.join(WAIVABLE)} can be waived; the rest is the gate")
    if waive and not reason:
        raise UsageError("a waiver is recorded with its reason: say why with --because")
    try:
        RegisterParams(alias=alias or "latest")
    except ValidationError as error:
        raise UsageError(f"--to '{alias}' is no alias: {error.errors()[0]['msg']}") from None
    artifact = find_model(store, name)
    model = artifact.manifest["params"]["name"]
    key, champion, remark = _champion(store, model, alias)
    if key == artifact.key:
        return Promoted(model, artifact.key, alias, key, None, mlflow=remark)
    candidate = _evidence(store, artifact, f"{model} {artifact.key[:12]}")
    verdict = judge(candidate, champion, measures, waive)
    over = champion.name if champion else ""
    if not verdict.passed or dry_run:
        return Promoted(model, artifact.key, alias, over, verdict, mlflow=remark)
    checks = tuple(f"{c.name}: {'' if c.holds else 'waived, '}{c.text}" for c in verdict.checks)
    record_promotion(store, Promotion("", model, alias, artifact.key, key, checks, reason))
    return Promoted(model, artifact.key, alias, over, verdict, True, remark or _tell(store, artifact.key))


def find_model(store: Store, name: str) -> Artifact:
    """The register artifact that a run made, or that a name of a model means. Raises UsageError."""
    if name.startswith("register/"):
        return _one([a for a in store.artifacts("register") if a.key.startswith(name.partition("/")[2])], name)
    given = re.fullmatch(r"(?:models:/)?(?P<model>[^/@]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))", name)
    if given:
        return _registered(store, name, **given.groupdict())
    stages = find_run(store, name).state().stages.values()
    found = [store.find(stage.type, stage.key).artifact for stage in stages if stage.type == "register" and stage.key]
    return _one([artifact for artifact in found if artifact is not None], name)


def _one(found: Sequence[Artifact], name: str) -> Artifact:
    if len(found) != 1:
        listed = ", ".join(f"register/{artifact.key[:12]}" for artifact in found)
        hint = f"say which: {listed}" if found else "a run registers one in a stage of type 'register'"
        raise UsageError(f"'{name}' names {len(found) or 'no'} models of the store; {hint}")
    return found[0]


def _registered(store: Store, name: str, model: str, alias: str | None, version: str | None) -> Artifact:
    held = holder(store.root, model, alias) if alias else None
    keys = {held.key} if held else set()
    if not held:
        records = {path.stem: tracking.read_registration(store.root, path.stem) for path in _records(store)}
        same = {key: found for key, found in records.items() if found and found["name"] == model}
        if version:
            keys = {key for key, found in same.items() if found["version"] == version}
        else:
            newest = sorted((int(f["version"]), key) for key, f in same.items() if f["alias"] == alias)
            keys = {key for _, key in newest[-1:]}
    return _one([a for a in store.artifacts("register") if a.key in keys], name)


def _records(store: Store) -> Iterator[Path]:
    return (store.root / "registrations").glob("*.json")


def _champion(store: Store, model: str, alias: str) -> tuple[str, Evidence | None, str]:
    """Key and evidence of what holds the alias, and what is to be said of MLflow. The registry counts where it
    answers, since other stores promote there too."""
    held = holder(store.root, model, alias)
    if not any(tracking.registered_here(store.root, path.stem) for path in _records(store)):
        here = tracking.public_address(tracking.tracking_uri(store.root))
        return (
            *_local(store, held),
            f"no model of this store has reached MLflow at {here}; aliases follow when one does",
        )
    try:
        with _impatient():
            from pipelines.tracking.promoting import registered_holder

            registered = registered_holder(store.root, model, alias)
    except Exception as error:  # noqa: BLE001 - whatever a registry does, the store goes on
        there = tracking.public_address(tracking.registry_uri(store.root))
        remark = f"MLflow at {there} does not answer ({type(error).__name__}): "
        remark += "judged by what this store knows, and told to it by the next run"
        return (*_local(store, held), remark)
    if registered is None or (held and (held.key == registered.key or not held.told)):
        return (*_local(store, held), "")
    artifact = store.find("register", registered.key).artifact if registered.key else None
    name = f"{model} version {registered.version}"
    if artifact is None:
        return registered.key, Evidence(name, registered.record), ""
    return registered.key, _evidence(store, artifact, name), ""


def _local(store: Store, held: Promotion | None) -> tuple[str, Evidence | None]:
    if held is None:
        return "", None
    artifact = store.find("register", held.key).artifact
    if artifact is None:
        raise UsageError(
            f"{held.name}@{held.alias} is register/{held.key[:12]}, which is gone from the store: submit its run "
            "again to rebuild it, so that it can be compared with"
        )
    return held.key, _evidence(store, artifact, f"{held.name} {held.key[:12]}")


def _evidence(store: Store, model: Artifact, name: str) -> Evidence:
    """The evaluation that a model was registered with."""
    entry = next(item for item in model.manifest["inputs"] if item["name"] == "metrics")
    try:
        return Evidence.of(name, store.object_path(entry["stage"], entry["key"]))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the evaluation of {name} cannot be read ({error}): submit its run again to rebuild it"
        ) from None


def _tell(store: Store, key: str) -> str:
    """Move the alias in MLflow; what came of it."""
    if tracking.read_registration(store.root, key) is None:
        return "MLflow has no version of this model yet; its alias is moved when the model arrives there"
    with _impatient():
        from pipelines.tracking.promoting import tell_promotions

        try:
            told = tell_promotions(store.root)
        except Exception as error:  # noqa: BLE001 - the store has it; the next run's mirror tries again
            return f"MLflow does not answer ({type(error).__name__}); the next run tells it"
    return "moved in MLflow" if told else "the model is registered at another MLflow, whose alias stays as it is"


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """A registry that is down is noticed soon."""
    before = {name: os.environ.get(name) for name in tracking.IMPATIENT}
    os.environ.update({**tracking.IMPATIENT, **{k: v for k, v in before.items() if v is not None}})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
