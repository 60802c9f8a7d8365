"""What a model card says of a model's worth: its figures with their intervals, and what they do not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stages.evaluate.wide_report import FIGURE_NAMES
from stages.register.provenance import DataCounts

_GAIN = "gain_over_untrained"
_CONTESTANTS = ("trained", "untrained", "pixels")
_NAMES = {
    "knn": "weighted kNN",
    "linear": "linear probe",
    **FIGURE_NAMES,
    "corrupted": "accuracy on corrupted images",
    "shortcut_reliance": "reliance on a planted mark (0 to 1)",
    "rankme": "RankMe",
    "effective_rank": "effective rank",
    "unit_std": "spread on the sphere (0: collapsed)",
}
_ORDER = {name: place for place, name in enumerate(_NAMES)}


def results(evaluation: Mapping[str, Any]) -> str:
    """The protocol, then for the held-out images and every evaluation set a table of figures by contestant."""
    lines = [f"Protocol `{evaluation['protocol']['id']}`; intervals are of 95 %, over the tested images."]
    lines += _split("Held-out images of the same pool", "", evaluation["metrics"], evaluation)
    for name, record in evaluation.get("sets", {}).items():
        lines += _split(f"Evaluation set `{name}`", f"{name}/", evaluation["metrics"], record)
    return "\n".join(lines)


def _split(title: str, prefix: str, metrics: Mapping[str, float], record: Mapping[str, Any]) -> Iterator[str]:
    own = {name.removeprefix(prefix): v for name, v in metrics.items() if name.startswith(prefix)}
    own = {name: value for name, value in own.items() if "/" not in name}
    split = record["split"]
    yield from ("", f"### {title}", "")
    if "unguarded" in record:
        yield from (f"**Unguarded**: {record['unguarded']}. These figures can't be trusted.", "")
    if split.get("note"):
        yield from (f"{split['note']}.", "")
    yield from _table([name for name in own if name.endswith("_trained")], own)
    if split.get("queries"):
        digests = split["digests"]
        yield (
            f"{split['queries']} images tested, the probes fitted on {split['bank']} (split "
            f"`{digests['bank'][:12]}` / `{digests['queries'][:12]}`)."
        )
    for name, reason in split.get("left_out", {}).items():
        yield f"- class `{name}` was left out: {reason}"


def _table(trained: list[str], metrics: Mapping[str, float]) -> Iterator[str]:
    """Figures that have a name for people, with intervals first, for each contestant that has them."""
    names = [name.removesuffix("_trained") for name in trained]
    further = len(names)
    names = [name for name in names if name.removesuffix("_quick") in _ORDER]
    names.sort(key=lambda name: (f"{name}_trained_lo" not in metrics, _ORDER[name.removesuffix("_quick")]))
    further -= len(names)
    there = [c for c in _CONTESTANTS if any(f"{name}_{c}" in metrics for name in names)]
    if not names:
        return
    suffixes = [*there, *([_GAIN] if any(f"{name}_{_GAIN}" in metrics for name in names) else [])]
    titles = ["raw pixels" if suffix == "pixels" else suffix.replace("_", " ") for suffix in suffixes]
    yield from (f"| figure | {' | '.join(titles)} |", "|---|" + "---|" * len(suffixes))
    for name in names:
        cells = [interval_text(metrics, f"{name}_{suffix}") for suffix in suffixes]
        quick = " (quick)" if name.endswith("_quick") else ""
        yield f"| {_NAMES[name.removesuffix('_quick')]}{quick} | {' | '.join(cells)} |"
    yield from ("", f"Further figures in the report of the evaluation: {further}.", "") if further else ("",)


def interval_text(metrics: Mapping[str, float], name: str) -> str:
    """ "0.478 (0.434 .. 0.523)", without the interval where there is none; empty where there is no figure."""
    if name not in metrics:
        return ""
    if f"{name}_lo" not in metrics:
        return f"{metrics[name]:.4g}"
    return f"{metrics[name]:.3f} ({metrics[f'{name}_lo']:.3f} .. {metrics[f'{name}_hi']:.3f})"


def limits(config: Mapping[str, Any], evaluation: Mapping[str, Any], counts: DataCounts) -> str:
    """What the figures and the data do not show, a line each; only what holds of this very model."""
    metrics = evaluation["metrics"]
    told = [
        f"One training with seed {config.get('seed', '?')}: no interval says what another seed would give.",
        f"Pictures were seen at {config['image_size']} px, resized to a square: finer detail and the shape are lost.",
    ]
    if evaluation["split"].get("queries"):
        told.append(
            "The held-out images come from the pool that it was trained on: on other pictures it may be worse."
        )
    else:
        told.append("Nothing has been tested on labelled images.")
    if metrics.get("knn_gain_over_untrained_lo", 1.0) <= 0:
        told.append("It is not shown to be better than the same network untrained.")
    if metrics.get("knn_gain_over_pixels_lo", 1.0) <= 0:
        told.append("By kNN it is not shown to be better than the raw pixels of the pictures.")
    unknown, trained = counts.licences.get(("",), 0), sum(counts.licences.values())
    if unknown:
        which = f"all {trained:,}" if unknown == trained else f"{unknown:,} of {trained:,}"
        told.append(f"Of {which} images that trained it no licence is known.")
    return "\n".join(f"- {text}" for text in told)
