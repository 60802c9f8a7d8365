"""The evaluation sets of the spec: which of them the pool was guarded against, and the split of each for probes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow.compute as pc

from stages.artifact import Artifact
from stages.base import StageContext, StageError
from stages.crawl.masks import MASK
from stages.evaluate import EvaluateParams
from stages.evaluate.split import Split, first_by_hash
from stages.guards import guarded_seeds, guarded_sets, set_digests
from training.evaluation.protocol import PROTOCOLS, SegmentationSettings, WideProtocol

_BANK_SHARE = 0.5
_BANK_WORDS, _QUERY_WORDS = frozenset({"train", "training"}), frozenset({"test", "val", "valid", "validation"})


@dataclass(frozen=True)
class _Member:
    image_id: str
    label: str
    split: str


def unguarded_sets(ctx: StageContext[EvaluateParams]) -> dict[str, str]:
    """Why each set is not guarded, by name; a guarded one is absent.

    A set counts as guarded if dedup compared exactly these images with the pool, and what the selection trains on is
    of that pool and leaks nothing. Raises StageError where one is not and `allow_unguarded` is off.
    """
    if "evaluation_images" not in ctx.inputs:
        return {}
    digests = set_digests(ctx.inputs["evaluation_images"])
    duplicates = ctx.inputs.get("duplicates")
    guarded = guarded_sets(duplicates)
    trained = _leaks_trained(ctx.inputs["selection"], duplicates)
    found = {}
    for name, wanted in digests.items():
        if name not in guarded:
            found[name] = "dedup has not compared it with the pool"
        elif guarded[name]["digest"] != wanted["digest"]:
            found[name] = f"dedup has compared other images of this name ({guarded[name]['images']}) with the pool"
        elif trained:
            found[name] = trained
    if found and not ctx.params.allow_unguarded:
        told = "; ".join(f"{name}: {why}" for name, why in found.items())
        raise StageError(
            f"the figures of {len(found)} evaluation sets could not be trusted, since images that they test on may "
            f"have been trained on. {told}. Connect duplicates to the dedup that reads the same sets and that the "
            "selection was made from, or set evaluate.allow_unguarded=true, and the figures are marked"
        )
    return found


def _leaks_trained(selection: Artifact, duplicates: Artifact | None) -> str:
    """Why the training images themselves are not what dedup has guarded, or ""."""
    if duplicates is None:
        return "no duplicates are connected"
    roles = selection.table(["image_id", "role"])
    train = set(roles.filter(pc.equal(roles["role"], "train"))["image_id"].to_pylist())
    verdicts, seeds = duplicates.table(["image_id", "reason"]), guarded_seeds(duplicates)
    leaks = set(verdicts.filter(pc.equal(verdicts["reason"], "leak"))["image_id"].to_pylist())
    leaks |= {image_id for image_id, leak in seeds.items() if leak}
    unseen = train - set(verdicts["image_id"].to_pylist()) - seeds.keys()
    if unseen:
        return f"the selection trains on {len(unseen)} images that dedup has not seen"
    return f"the selection trains on {len(train & leaks)} images that leak" if train & leaks else ""


def set_splits(ctx: StageContext[EvaluateParams]) -> dict[str, Split]:
    """Bank and queries of every set, by name. Where the metadata of all labelled images have a `split`, of train and
    test (or validation), that is taken; else the images of each class are halved by hash. Of a set without labels the
    images with masks are divided likewise."""
    members: defaultdict[str, list[_Member]] = defaultdict(list)
    masked: defaultdict[str, list[_Member]] = defaultdict(list)
    table = ctx.inputs["evaluation_images"].table(["image_id", "source", "label", "metadata"])
    for row in table.to_pylist():
        name, metadata = str(row["source"]), json.loads(row["metadata"] or "{}")
        member = _Member(row["image_id"], row["label"] or "", str(metadata.get("split", "")).lower())
        members[name] += [] if row["label"] is None else [member]
        masked[name] += [member] if MASK in metadata else []
    protocol = PROTOCOLS[ctx.params.protocol]
    splits = {name: _split(ctx.params, found) for name, found in sorted(members.items())}
    for name in splits:
        if isinstance(protocol, WideProtocol) and masked[name] and not members[name]:
            splits[name] = _masked_split(protocol.segmentation, ctx.params.seed, masked[name])
    return splits


def _masked_split(settings: SegmentationSettings, seed: int, members: list[_Member]) -> Split:
    """Of images without labels: what segmentation learns from, and what it is tested on."""
    ids = first_by_hash([member.image_id for member in members], len(members), seed)
    learn = set(ids[: round(_BANK_SHARE * len(ids))])
    if all(member.split in _BANK_WORDS | _QUERY_WORDS for member in members):
        learn = {member.image_id for member in members if member.split in _BANK_WORDS}
    bank = [i for i in ids if i in learn][: settings.bank]
    queries = [i for i in ids if i not in learn][: settings.queries]
    return Split(sorted(bank), [], sorted(queries), [], [], note="The set has masks and no labels")


def _split(params: EvaluateParams, members: list[_Member]) -> Split:
    by_class: defaultdict[str, list[_Member]] = defaultdict(list)
    for member in members:
        by_class[member.label].append(member)
    named = members and all(member.split in _BANK_WORDS | _QUERY_WORDS for member in members)
    bank: list[tuple[str, str]] = []
    queries: list[tuple[str, str]] = []
    left_out = {}
    for label, found in sorted(by_class.items()):
        ids = first_by_hash([member.image_id for member in found], len(found), params.seed)
        if named:
            learn = {member.image_id for member in found if member.split in _BANK_WORDS}
        else:
            learn = set(ids[: round(_BANK_SHARE * len(ids))])
        ours, theirs = [i for i in ids if i in learn], [i for i in ids if i not in learn]
        if len(ours) < params.min_class_size or not theirs:
            left_out[label] = f"{len(ours)} images to learn from and {len(theirs)} to test on"
            continue
        bank += [(i, label) for i in ours[: params.max_per_class]]
        queries += [(i, label) for i in theirs[: params.max_queries_per_class]]
    classes = sorted({label for _, label in bank})
    if len(classes) < 2:
        note = "The set has no labels" if not members else "Fewer than two classes have enough labelled images"
        return Split([], [], [], [], [], left_out, note)
    return Split(*_columns(bank, classes), *_columns(queries, classes), classes, left_out)


def _columns(rows: Iterable[tuple[str, str]], classes: list[str]) -> tuple[list[str], list[int]]:
    ordered = sorted(rows)
    return [image_id for image_id, _ in ordered], [classes.index(label) for _, label in ordered]
