"""The page of leaks: what of the pool shows an evaluation image, side by side with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curation.candidates import NO_HASH
from curation.galleries import Section, Tile, gallery_html
from stages.dedup.pool import Pool
from stages.pictures import Picture, read_pictures

if TYPE_CHECKING:
    from stages.base import StageContext
    from stages.dedup import DedupParams
    from stages.dedup.guarding import Leaks

_PAIRS, _BORDER = 120, 24


def write_leaks(ctx: StageContext[DedupParams], pool: Pool, leaks: Leaks) -> None:
    """Write `report/leaks.html`: counts of each set, then matched pairs, the faintest first, and near misses."""
    matches, reference = leaks.matches, leaks.reference
    direct = np.flatnonzero(leaks.own >= 0)
    entries = leaks.own[direct]
    faint = entries[np.lexsort((matches.rows[entries], matches.cosine[entries], matches.same[entries]))]
    beyond = np.flatnonzero(leaks.match[matches.rows] < 0)
    missed = beyond[np.lexsort((matches.rows[beyond], -matches.cosine[beyond]))][:_BORDER]
    chosen = {name: faint[[reference.sources[c] == name for c in matches.columns[faint]]] for name in _names(leaks)}
    shown = {name: found[: max(1, _PAIRS // len(chosen))] for name, found in chosen.items()}
    entries = np.concatenate([missed, *shown.values()])
    ours = read_pictures(ctx.inputs["images"], [pool.ids[row] for row in matches.rows[entries]])
    theirs = read_pictures(ctx.inputs["reference_images"], [reference.ids[c] for c in matches.columns[entries]])

    def tiles(found: np.ndarray) -> list[Tile]:
        pairs = [(ours[pool.ids[matches.rows[e]]], theirs[reference.ids[matches.columns[e]]], int(e)) for e in found]
        return [tile for pair in pairs for tile in _pair(leaks, *pair)]

    total = leaks.counts()
    sections = [
        Section(
            f"{name}: {len(chosen[name])} images of the pool match it, {total[name]} are dropped",
            tiles(found),
            "Two pictures a pair: the image of the pool, grey since it is dropped, then the evaluation image. "
            "Faintest first." + (f" {len(found)} pairs shown." if len(found) < len(chosen[name]) else ""),
            together=2,
        )
        for name, found in shown.items()
    ]
    sections.append(Section("Near misses: these stay in the pool", tiles(missed), "Nearest first.", together=2))
    (ctx.report / "leaks.html").write_text(gallery_html("Leaks", sections, _note(leaks)), encoding="utf-8")


def _names(leaks: Leaks) -> list[str]:
    return sorted({str(name) for name in leaks.reference.sources})


def _note(leaks: Leaks) -> str:
    direct, whole = int((leaks.own >= 0).sum()), int((leaks.match >= 0).sum())
    return (
        f"{len(leaks.own)} images against {len(leaks.reference.ids)} of {len(_names(leaks))} evaluation sets: "
        f"{direct} match one, and {whole - direct} more are near-copies of those, so that {whole} are dropped."
    )


def _pair(leaks: Leaks, ours: Picture, theirs: Picture, entry: int) -> tuple[Tile, Tile]:
    matches = leaks.matches
    text = "the same picture" if matches.same[entry] else f"cos {matches.cosine[entry]:.3f}"
    text += f" · {matches.hamming[entry]} bits" if matches.hamming[entry] != NO_HASH else ""
    text += f" · PDQ {matches.pdq[entry]}" if matches.pdq[entry] != NO_HASH else ""
    dropped = leaks.match[matches.rows[entry]] >= 0
    return (
        Tile(ours.bytes, f"{text} · {ours.caption or ours.image_id[:8]}", bool(dropped), ours.orientation),
        Tile(theirs.bytes, f"evaluation: {theirs.label or theirs.image_id[:8]}", False, theirs.orientation),
    )
