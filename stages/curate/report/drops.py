"""The section on what does not train: by the rules of the filter, and by the reasons of the selection."""

from __future__ import annotations

from collections import Counter

from curation.page_shell import text_html
from curation.review_page import PageSection, figures_html, paragraph, table_html
from curation.sampling import id_keys
from stages.artifact import Artifact
from stages.curate.report.album import Album
from stages.curate.report.findings import Findings

_EACH = 10


def drops_section(
    found: Findings, images: Artifact, quality: Artifact | None, album: Album, budget: int
) -> PageSection:
    """What each rule and reason dropped, with a fixed sample of pictures of each."""
    rules = _rules(quality)
    reasons: dict[str, list[int]] = {}
    for row in found.rows_of("dropped"):
        if found.reasons[row] != "duplicate":
            reasons.setdefault(found.reasons[row], []).append(row)
    body = _rules_table(rules, quality)
    ranked = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    body += "<h3>By the reason that counted</h3>" if ranked else paragraph("Nothing else was dropped.")
    samples = [(reason, rows, _sample(found, rows)) for reason, rows in ranked]
    album.put(images, _by_turns([[found.ids[row] for row in rows] for _, _, rows in samples]), budget)
    for reason, rows, chosen in samples:
        body += f"<p>{text_html(reason)}: {len(rows):,} images</p>"
        body += figures_html([album.figure(found.ids[row], tone="dropped") for row in chosen], album.thumbnails)
    return PageSection("drops", "Dropped", body)


def _rules(quality: Artifact | None) -> dict[str, tuple[int, int]]:
    """Of each rule of the filter: images that it applies to, and those that it alone would drop."""
    if quality is None:
        return {}
    table = quality.table(["keep", "reasons"])
    every: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for keep, codes in zip(table["keep"].to_pylist(), table["reasons"].to_pylist(), strict=True):
        if not keep:
            every.update(codes or [])
            alone.update(codes if len(codes or []) == 1 else [])
    return {code: (count, alone[code]) for code, count in sorted(every.items(), key=lambda item: (-item[1], item[0]))}


def _rules_table(rules: dict[str, tuple[int, int]], quality: Artifact | None) -> str:
    if quality is None:
        return paragraph("No filter is connected: no rule looked at single images.")
    if not rules:
        return paragraph("The filter's rules dropped nothing.")
    rows = [[code, f"{count:,}", f"{alone:,}"] for code, (count, alone) in rules.items()]
    return "<h3>Rules of the filter</h3>" + table_html(["rule", "applies to", "alone"], rows)


def _sample(found: Findings, rows: list[int]) -> list[int]:
    keys = id_keys([found.ids[row] for row in rows], 0, "dropped").tolist()
    return [row for _, row in sorted(zip(keys, rows, strict=True))][:_EACH]


def _by_turns(lists: list[list[str]]) -> list[str]:
    """One of each list, then the next of each, so that a budget is shared."""
    return [own[turn] for turn in range(_EACH) for own in lists if turn < len(own)]
