"""The section on near-duplicates: what each method dropped, and how often it was right where that is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from curation.review_page import Figure, PageSection, figures_html, paragraph, table_html
from curation.sampling import id_keys
from stages.artifact import Artifact
from stages.curate.report.album import Album
from stages.curate.report.findings import Findings
from training.evaluation.intervals import wilson_interval

_PAIRS = 12


@dataclass(frozen=True)
class Method:
    """What one method dropped. pairs: (dropped row, keeper's row). right: of those whose true groups are known, how
    many belong together, `known` in all."""

    name: str
    pairs: list[tuple[int, int]]
    right: int
    known: int


def methods(found: Findings) -> list[Method]:
    """The methods by their count of dropped images. Leaks are no pairs of the pool and stay out."""
    pairs: dict[str, list[tuple[int, int]]] = {}
    for row, method in enumerate(found.methods):
        if method not in (None, "leak") and found.keepers[row] >= 0:
            pairs.setdefault(str(method), []).append((row, found.keepers[row]))
    listed = []
    for name, own in sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0])):
        verdicts = [verdict for pair in own if (verdict := _agree(found, pair)) is not None]
        listed.append(Method(name, own, sum(verdicts), len(verdicts)))
    return listed


def duplicate_metrics(found: Findings) -> dict[str, float]:
    """`duplicates_<method>`, and where true groups (or classes) are known `duplicates_<method>_precision`."""
    metrics: dict[str, float] = {}
    for method in methods(found):
        metrics[f"duplicates_{method.name}"] = float(len(method.pairs))
        if method.known:
            metrics[f"duplicates_{method.name}_precision"] = method.right / method.known
    return metrics


def duplicates_section(found: Findings, images: Artifact, album: Album, budget: int) -> PageSection:
    """A table of the methods with their precision, and pairs: the kept image before the dropped one."""
    listed = methods(found)
    leaks = found.methods.count("leak")
    body = paragraph(_what_is_known(found)) if listed else paragraph("No image was dropped as a near-duplicate.")
    if listed:
        rows = [_row(method) for method in listed]
        body += table_html(["method", "dropped", "known pairs", "precision", "95 % interval"], rows)
        sizes = Counter(Counter(row for row in found.keepers if row >= 0).values())
        groups = sum(n for size, n in sizes.items() if size > 1)
        body += paragraph(f"{groups:,} groups of more than one image; the largest has {max(sizes):,}.")
    if leaks:
        body += paragraph(f"{leaks:,} images were dropped since they match an image of an evaluation set.")
    chosen = [(method, _chosen(found, method)) for method in listed]
    album.put(images, [found.ids[row] for _, pairs in chosen for pair in pairs for row in pair[::-1]], budget)
    for method, pairs in chosen:
        body += f"<h3>{method.name}: kept, then dropped</h3>"
        figures = [figure for pair in pairs for figure in _pair(found, album, pair)]
        body += figures_html(figures, album.thumbnails, together=2)
    return PageSection("duplicates", "Duplicates", body)


def _what_is_known(found: Findings) -> str:
    if not found.groups_are_classes:
        return "Precision: share of the dropped images whose keeper belongs to the same true group of the source."
    if any(found.labels):
        return (
            "Precision: share of the dropped images whose keeper has the same label. Classes are coarser than true "
            "groups of duplicates, so this is an upper bound."
        )
    return "The pool has neither true groups nor labels to tell right from wrong."


def _row(method: Method) -> list[str]:
    low, high = wilson_interval(method.right, method.known)
    right = [f"{method.right / method.known:.3f}", f"{low:.3f} .. {high:.3f}"] if method.known else ["", ""]
    return [method.name, f"{len(method.pairs):,}", f"{method.known:,}", *right]


def _agree(found: Findings, pair: tuple[int, int]) -> bool | None:
    dropped, kept = (found.true_groups[row] for row in pair)
    return None if dropped is None or kept is None else dropped == kept


def _chosen(found: Findings, method: Method) -> list[tuple[int, int]]:
    """Pairs to look at: up to half of them wrong ones, the rest by the hash of the dropped image."""
    keys = id_keys([found.ids[dropped] for dropped, _ in method.pairs], 0, "duplicate pairs")
    ranked = [pair for _, pair in sorted(zip(keys.tolist(), method.pairs, strict=True))]
    wrong = [pair for pair in ranked if _agree(found, pair) is False][: _PAIRS // 2]
    return [*wrong, *(pair for pair in ranked if pair not in wrong)][:_PAIRS]


def _pair(found: Findings, album: Album, pair: tuple[int, int]) -> list[Figure]:
    dropped, kept = pair
    tone = {True: "good", False: "bad", None: ""}[_agree(found, pair)]
    words = {"good": "same", "bad": "differs", "": "dropped"}[tone]
    left = album.figure(found.ids[kept], found.true_groups[kept] or "kept")
    return [left, album.figure(found.ids[dropped], f"{words}: {found.true_groups[dropped] or ''}".rstrip(": "), tone)]
