"""Which passes beyond plain features an evaluation of a split asks for, and on which of its images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from stages.evaluate import EvaluateParams
from stages.evaluate.features import Member, Pass
from stages.evaluate.split import Split, first_by_hash
from training.evaluation.protocol import Protocol, RobustnessSettings, WideProtocol
from training.evaluation.shifts import INVARIANCES

_SELF_LEARNING_C = 0.01


class Asked(NamedTuple):
    """layers, patches: of the features. passes: the further ones, on the images of `groups`."""

    layers: int
    patches: bool
    groups: Mapping[str, Sequence[Member]]
    passes: Sequence[Pass]


def asked_of(
    split: Split,
    protocol: Protocol,
    params: EvaluateParams,
    side: int,
    *,
    boxed: Collection[str],
    masked: Collection[str],
    of_pool: bool,
) -> Asked:
    """What the figures of `split` need.

    side: of the backbone's images. boxed, masked: images with true boxes, with masks. of_pool: views are made of the
    pool alone.
    """
    if not isinstance(protocol, WideProtocol):
        return Asked(0, False, {}, [])
    seed, groups, passes = params.seed, dict[str, list[Member]](), list[Pass]()
    if of_pool:
        groups["views"] = [Member(i) for i in sorted(first_by_hash(split.bank, protocol.view_images, seed))]
        passes.append(Pass("views", "views", "views", {"views": protocol.views, "seed": seed}))
    dense = first_by_hash(split.queries or split.bank, protocol.dense_images, seed)
    groups["dense"] = [Member(i) for i in dense]
    passes.append(Pass("tokens", "tokens", "dense", {"seed": seed}))
    if boxed:
        groups["boxed"] = [Member(i) for i in sorted(first_by_hash(boxed, protocol.boxed_images, seed))]
        passes.append(Pass("discovery", "discovery", "boxed"))
    if masked:
        learn, test = ([i for i in ids if i in masked] for ids in (split.bank, split.queries))
        learn = first_by_hash(learn, protocol.segmentation.bank, seed)
        test = first_by_hash(test, protocol.segmentation.queries, seed)
        groups["masked"] = [*(Member(i) for i in sorted(learn)), *(Member(i, query=True) for i in sorted(test))]
        passes.append(Pass("segmentation", "segmentation", "masked"))
    if split.labelled and params.robustness != "none":
        settings = protocol.quick if params.robustness == "quick" else protocol.full
        _ask_robustness(groups, passes, split, settings, seed, side)
    if split.labelled and params.fine_tune != "none":
        groups["tuned"] = [*_bank(split), *_queries(split)]
        share = 1.0 if params.fine_tune == "full" else protocol.tuned_share
        for contestant in ("trained", "untrained"):
            options = {"contestant": contestant, "share": share, "seen": params.fine_tune_images, "seed": seed}
            passes.append(Pass(f"fine_tune-{contestant}", "fine_tune", "tuned", options))
    return Asked(protocol.layers, split.labelled and params.attentive_probe, groups, passes)


def _ask_robustness(
    groups: dict[str, list[Member]],
    passes: list[Pass],
    split: Split,
    settings: RobustnessSettings,
    seed: int,
    side: int,
) -> None:
    """A pass for each corruption and transformation, so that workers share them."""
    shifted = set(first_by_hash(split.queries, settings.queries, seed))
    marked = set(first_by_hash(split.bank, settings.marked_rows, seed))
    plain = first_by_hash([*split.queries, *split.bank], settings.invariance_images, seed)
    groups["shifted"] = [member for member in _queries(split) if member.image_id in shifted]
    groups["marked"] = [m for m in _bank(split) if m.image_id in marked] + groups["shifted"]
    groups["plain"] = [Member(i) for i in sorted(plain)]
    for name in settings.corruptions:
        shifts = [f"{name}_{severity}" for severity in settings.severities]
        passes.append(Pass(f"shifts-{name}", "shifts", "shifted", {"shifts": shifts, "seed": seed}))
    sides = [f"resolution_{part}" for part in (side // 2, side // 4) if part]
    geometry = ["clean", *sides, *(f"crop_{share:g}" for share in settings.crops)]
    passes.append(Pass("shifts-geometry", "shifts", "shifted", {"shifts": geometry, "seed": seed}))
    for name in ("none", *INVARIANCES):
        passes.append(Pass(f"invariance-{name}", "invariance", "plain", {"transformations": [name]}))
    passes.append(Pass("shortcut", "shortcut", "marked", {"seed": seed}))
    for shift in settings.self_learning:
        options = {"shift": shift, "c": _SELF_LEARNING_C, "seed": seed}
        passes.append(Pass(f"self_learning-{shift}", "self_learning", "marked", options))


def _bank(split: Split) -> list[Member]:
    return [Member(i, label) for i, label in zip(split.bank, split.bank_labels, strict=True)]


def _queries(split: Split) -> list[Member]:
    return [Member(i, label, True) for i, label in zip(split.queries, split.query_labels, strict=True)]
