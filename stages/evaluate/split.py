"""Which images the probes learn from (the bank) and which they are tested on (the queries)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from stages.artifact import Artifact


@dataclass(frozen=True)
class Split:
    """The images of an evaluation, sorted by id within bank and queries.

    bank, queries: image ids. bank_labels, query_labels: their classes, as positions in `classes`.
    left_out: reason by class that could not take part. Without labels `classes` is empty, `bank` is a sample for the
    label-free measures, and `note` says why.
    """

    bank: list[str]
    bank_labels: list[int]
    queries: list[str]
    query_labels: list[int]
    classes: list[str]
    left_out: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def labelled(self) -> bool:
        return bool(self.classes)

    def digests(self) -> dict[str, str]:
        """Digest of either side, ids with classes: results on other digests are other experiments."""
        return {
            "bank": _digest(self.bank, self.bank_labels, self.classes),
            "queries": _digest(self.queries, self.query_labels, self.classes),
        }


def choose_split(
    selection: Artifact,
    images: Artifact,
    *,
    max_per_class: int,
    max_queries_per_class: int,
    min_class_size: int,
    max_unlabelled: int,
    seed: int,
) -> Split:
    """Choose by hash of seed and image id, so that a choice hardly changes when the pool around it does."""
    bank, queries, train = _labelled_ids(selection, images)
    left_out: dict[str, str] = {}
    for name in sorted(set(bank) | set(queries)):
        if len(bank[name]) < min_class_size:
            left_out[name] = f"{len(bank[name])} labelled training images, below min_class_size {min_class_size}"
        elif not queries[name]:
            left_out[name] = "no held-out image"
    classes = [name for name in sorted(bank) if name not in left_out]
    if len(classes) < 2:
        sample = sorted(first_by_hash(train, max_unlabelled, seed))
        return Split(sample, [], [], [], [], left_out, _why_unlabelled(bank, queries, classes))
    bank_rows = _rows(classes, bank, max_per_class, seed)
    query_rows = _rows(classes, queries, max_queries_per_class, seed)
    return Split(
        [i for i, _ in bank_rows],
        [c for _, c in bank_rows],
        [i for i, _ in query_rows],
        [c for _, c in query_rows],
        classes,
        left_out,
    )


def first_by_hash(ids: Iterable[str], count: int, seed: int) -> list[str]:
    """The `count` ids whose SHA-256 with the seed is smallest, in that order."""
    return sorted(ids, key=lambda i: (hashlib.sha256(f"{seed}:{i}".encode()).digest(), i))[:count]


def _labelled_ids(
    selection: Artifact, images: Artifact
) -> tuple[defaultdict[str, list[str]], defaultdict[str, list[str]], list[str]]:
    """Labelled training ids by class, held-out ids by class, and all training ids."""
    roles = selection.table(["image_id", "role"])
    roles = roles.filter(pc.is_in(roles["role"], value_set=pa.array(["train", "holdout"])))
    label_of = images.table(["image_id", "label"])
    label_of = label_of.filter(pc.is_in(label_of["image_id"], value_set=roles["image_id"].combine_chunks()))
    labels = dict(zip(label_of["image_id"].to_pylist(), label_of["label"].to_pylist(), strict=True))
    bank: defaultdict[str, list[str]] = defaultdict(list)
    queries: defaultdict[str, list[str]] = defaultdict(list)
    train: list[str] = []
    for image_id, role in zip(roles["image_id"].to_pylist(), roles["role"].to_pylist(), strict=True):
        if role == "train":
            train.append(image_id)
        if labels.get(image_id) is not None:
            (bank if role == "train" else queries)[labels[image_id]].append(image_id)
    return bank, queries, train


def _why_unlabelled(bank: dict[str, list[str]], queries: dict[str, list[str]], classes: Sequence[str]) -> str:
    if not any(bank.values()) and not any(queries.values()):
        return "The pool has no labels"
    if not any(queries.values()):
        return "No labelled image was held out"
    return (
        f"{len(classes)} of {len(set(bank) | set(queries))} classes have enough labelled images, and probes need two"
    )


def _rows(classes: Sequence[str], ids: dict[str, list[str]], cap: int, seed: int) -> list[tuple[str, int]]:
    return sorted((i, c) for c, name in enumerate(classes) for i in first_by_hash(ids[name], cap, seed))


def _digest(ids: Sequence[str], labels: Sequence[int], classes: Sequence[str]) -> str:
    names = [classes[label] for label in labels] or [""] * len(ids)
    text = "\n".join(f"{image_id}\t{name}" for image_id, name in zip(ids, names, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
