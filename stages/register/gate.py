"""The gate that a model passes to take another's place: measured alike, above an untrained network, and not worse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from pathlib import Path
from typing import Any

COMPARABLE, GUARDED = "comparable", "guarded"
WAIVABLE = (COMPARABLE, GUARDED)
"""Checks that a person may waive, with a reason: the others are what the gate is for."""

MEASURES = ("knn", "linear")
_HELD_OUT = ""


@dataclass(frozen=True)
class Evidence:
    """What is known of a model's worth.

    name: for messages. record: as in `metrics.json`: protocol, split, sets, and flat metrics. folder: the metrics
    artifact, where its predictions are looked for; None for a model that only the registry knows.
    """

    name: str
    record: Mapping[str, Any]
    folder: Path | None = None

    @classmethod
    def of(cls, name: str, folder: Path) -> Evidence:
        """The evidence in a metrics artifact. Raises OSError or ValueError where it cannot be read."""
        return cls(name, json.loads((folder / "metrics.json").read_text()), folder)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The flat figures; those of an evaluation set as `<set>/<figure>`."""
        return self.record["metrics"]

    def splits(self) -> dict[str, Mapping[str, str]]:
        """Digests of the test images by evaluation set; the held-out images' under ""."""
        found = {_HELD_OUT: self.record["split"].get("digests") or {}}
        sets = self.record.get("sets", {})
        return found | {name: entry["split"]["digests"] for name, entry in sets.items() if "digests" in entry["split"]}


@dataclass(frozen=True)
class Check:
    """One condition of the gate. holds: whether it does. text: what was found, for a person."""

    name: str
    holds: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """All conditions of the gate, and those that a person waived."""

    checks: Sequence[Check]
    waived: Sequence[str] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether every condition holds, but for those that were waived."""
        return all(check.holds or check.name in self.waived for check in self.checks)


def judge(
    candidate: Evidence,
    champion: Evidence | None,
    measures: Sequence[str] = MEASURES,
    waived: Sequence[str] = (),
    seed: int = 0,
) -> Verdict:
    """Whether `candidate` may take the place of `champion`, or stand where none stood.

    measures: probes that decide; a figure of each that both have is compared on the held-out images and on every
    shared evaluation set. seed: of the bootstrap of paired differences.
    """
    checks = [_guarded(candidate), *_above_untrained(candidate, measures)]
    if champion is not None:
        comparable = _comparable(candidate, champion)
        checks.append(comparable)
        if comparable.holds:
            checks += _not_worse(candidate, champion, measures, seed)
    return Verdict(checks, tuple(waived))


def _guarded(candidate: Evidence) -> Check:
    unguarded = {
        n: found["unguarded"] for n, found in candidate.record.get("sets", {}).items() if "unguarded" in found
    }
    if not unguarded:
        return Check(GUARDED, True, "no figure is of images that may have been trained on")
    listed = "; ".join(f"{name}: {reason}" for name, reason in unguarded.items())
    return Check(GUARDED, False, f"evaluation sets that the training images were not kept clear of: {listed}")


def _above_untrained(candidate: Evidence, measures: Sequence[str]) -> Iterator[Check]:
    """For each probe on each set: what training gained over the untrained network lies above 0 with its interval."""
    metrics, found = candidate.metrics, False
    for of_set in candidate.splits():
        for measure in measures:
            gain = f"{of_set}/{measure}_gain_over_untrained".removeprefix("/")
            if f"{gain}_lo" in metrics:
                found = True
                text = f"{metrics[gain]:+.3f} ({metrics[f'{gain}_lo']:+.3f} .. {metrics[f'{gain}_hi']:+.3f})"
                yield Check(f"{_where(measure, of_set)} above untrained", metrics[f"{gain}_lo"] > 0, text)
    if not found:
        text = f"no figure of {' or '.join(measures)} on labelled images, so there is nothing to judge it by"
        yield Check("measured", False, text)


def _where(measure: str, of_set: str) -> str:
    return f"{measure} on {of_set}" if of_set else measure


def _comparable(candidate: Evidence, champion: Evidence) -> Check:
    own, other = candidate.record["protocol"]["id"], champion.record["protocol"]["id"]
    if own != other:
        return Check(COMPARABLE, False, f"it was measured by protocol {own}, {champion.name} by {other}")
    ours, theirs = candidate.splits(), champion.splits()
    differing = [name or "the held-out images" for name in theirs if ours.get(name) != theirs[name]]
    if differing:
        listed = ", ".join(differing)
        return Check(COMPARABLE, False, f"it and {champion.name} were not measured on the same images: {listed}")
    return Check(COMPARABLE, True, f"protocol {own} and the same images as {champion.name}")


def _not_worse(candidate: Evidence, champion: Evidence, measures: Sequence[str], seed: int) -> Iterator[Check]:
    """For each probe on each set: the interval of the difference does not lie below 0."""
    for of_set in champion.splits():
        for measure in measures:
            figure = f"{of_set}/{measure}_trained".removeprefix("/")
            if not all(f"{figure}_lo" in side.metrics for side in (candidate, champion)):
                continue
            difference, low, high, how = _difference(candidate, champion, of_set, measure, figure, seed)
            text = f"{difference:+.3f} ({low:+.3f} .. {high:+.3f}, {how})"
            yield Check(f"{_where(measure, of_set)} not worse", high >= 0, text)


def _difference(
    candidate: Evidence, champion: Evidence, of_set: str, measure: str, figure: str, seed: int
) -> tuple[float, float, float, str]:
    """Candidate less champion with a 95 % interval: paired by image where both kept their predictions."""
    from stages.register.paired import paired_accuracy

    found = paired_accuracy(candidate.folder, champion.folder, of_set, f"{measure}_trained", seed)
    if found is not None:
        return (*found, "paired")
    own, other = ([side.metrics[f"{figure}{end}"] for end in ("", "_lo", "_hi")] for side in (candidate, champion))
    difference, low, high = independent_difference(own, other)
    return difference, low, high, "unpaired"


def independent_difference(own: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Difference of two figures that have intervals, with its interval, as if the two were independent.

    own, other: value, low and high end. Each end of the interval lies the root of the summed squares of the two
    distances away (Newcombe, 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10).
    Figures on the same images are rather alike, so that it is wider than a paired interval.
    """
    (value, low, high), (other_value, other_low, other_high) = own, other
    difference = value - other_value
    return (
        difference,
        difference - hypot(value - low, other_high - other_value),
        difference + hypot(high - value, other_value - other_low),
    )
