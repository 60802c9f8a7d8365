"""What a person judges a deduplication by: groups, the pairs around its threshold, and what another one would keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from curation.candidates import NO_HASH
from curation.duplicates import Edges, kept_at, reasons
from curation.galleries import Section, Tile, gallery_html
from stages.dedup.leak_report import write_leaks
from stages.dedup.limits import limits_of
from stages.pictures import Picture, read_pictures

if TYPE_CHECKING:
    from stages.base import StageContext
    from stages.dedup import DedupParams
    from stages.dedup.grouping import Findings

_GROUPS, _MEMBERS, _PAIRS = 36, 12, 12


def write_report(ctx: StageContext[DedupParams], findings: Findings) -> None:
    """Write `report/duplicates.html`, `report/threshold.png`, and `report/leaks.html` where there is a guard."""
    ids, edges = findings.pool.ids, findings.edges
    groups = _largest_groups(findings)
    above, below = border_pairs(edges.cosine, ctx.params.threshold, _PAIRS)
    rows = {row for members in groups for row in members}
    rows |= {int(row) for edge in [*above, *below] for row in (edges.i[edge], edges.j[edge])}
    pictures = read_pictures(ctx.inputs["images"], [ids[row] for row in rows])
    sections = border_sections(ids, edges, above, below, pictures, "the threshold")
    sections += [_group_section(ctx.params, findings, members, pictures) for members in groups]
    dropped = int((findings.keepers != np.arange(len(ids))).sum())
    note = (
        f"Of {len(ids)} images {dropped} are dropped as near-duplicates. Groups: the keeper first (passes the "
        "filters, then most pixels, then most bytes, then smallest id), dropped images grey with the edge that ties "
        "them: equal pixels, cosine of the embeddings, or differing bits of a hash."
    )
    html = gallery_html("Duplicate groups", sections, note)
    (ctx.report / "duplicates.html").write_text(html, encoding="utf-8")
    _threshold_figure(ctx, len(ids), edges)
    if findings.leaks is not None:
        write_leaks(ctx, findings.pool, findings.leaks)


def _largest_groups(findings: Findings) -> list[list[int]]:
    """Rows of the largest groups and of an even sample of the rest, keepers first."""
    sizes = np.bincount(findings.groups)
    several = [int(label) for label in np.argsort(-sizes, kind="stable") if sizes[label] > 1]
    rest = several[_GROUPS // 2 :]
    step = max(1, len(rest) // (_GROUPS // 2))
    groups = []
    for label in several[: _GROUPS // 2] + rest[::step][: _GROUPS // 2]:
        members = np.flatnonzero(findings.groups == label)
        keeper = int(findings.keepers[members[0]])
        groups.append([keeper, *(int(row) for row in members if row != keeper)])
    return groups


def border_pairs(values: NDArray[np.generic], border: float, count: int) -> tuple[list[int], list[int]]:
    """Places of the `count` values nearest to a border from above (or at it), and of those below."""
    order = np.argsort(values, kind="stable")
    place = int(np.searchsorted(values[order], border))
    return order[place : place + count].tolist(), order[max(0, place - count) : place][::-1].tolist()


def border_sections(
    ids: Sequence[str], edges: Edges, inside: list[int], outside: list[int], pictures: dict[str, Picture], border: str
) -> list[Section]:
    """The pairs on both sides of a border: those that count as one image, then those that do not."""
    sides = (
        (f"Pairs just within {border}", inside, "These count as one image."),
        (f"Pairs just beyond {border}", outside, "These stay apart unless other edges join them."),
    )
    return [
        Section(title, _pair_tiles(ids, edges, chosen, pictures), f"Two pictures a pair. {more}", together=2)
        for title, chosen, more in sides
    ]


def _pair_tiles(ids: Sequence[str], edges: Edges, chosen: list[int], pictures: dict[str, Picture]) -> list[Tile]:
    tiles = []
    for edge in chosen:
        for row in (edges.i[edge], edges.j[edge]):
            picture = pictures[ids[row]]
            text = f"{scores_text(edges, edge)} · {picture.caption or ids[row][:8]}"
            tiles.append(Tile(picture.bytes, text, False, picture.orientation))
    return tiles


def scores_text(edges: Edges, edge: int) -> str:
    """ "cos 0.981 · 3 bits · PDQ 12", with what is known of a pair."""
    parts = [f"cos {edges.cosine[edge]:.3f}"]
    parts += [f"{edges.hamming[edge]} bits"] if edges.hamming[edge] != NO_HASH else []
    parts += [f"PDQ {edges.pdq[edge]}"] if edges.pdq[edge] != NO_HASH else []
    return " · ".join(parts)


def _group_section(
    params: DedupParams, findings: Findings, members: list[int], pictures: dict[str, Picture]
) -> Section:
    shown = members[:_MEMBERS]
    why = reasons(findings.edges, limits_of(params), findings.found.edge[shown])
    repeats = dict(zip(findings.repeats.dropped.tolist(), findings.repeats.cosine.tolist(), strict=True))
    tiles = []
    for row, (reason, _) in zip(shown, why, strict=True):
        picture, edge = pictures[findings.pool.ids[row]], findings.found.edge[row]
        name = picture.caption or picture.label or picture.image_id[:8]
        if row in repeats:
            text = f"semantic, cos {repeats[row]:.3f} · {name}"
        elif edge < 0:
            text = f"kept {picture.width}x{picture.height} · {name}"
        else:
            text = f"{reason} · {scores_text(findings.edges, edge)} · {name}"
        tiles.append(Tile(picture.bytes, text, row in repeats or edge >= 0, picture.orientation))
    more = f", {_MEMBERS} of them shown" if len(members) > _MEMBERS else ""
    keeper = pictures[findings.pool.ids[members[0]]]
    title = f"{len(members)} images: {keeper.caption or keeper.image_id[:12]}"
    return Section(title, tiles, f"Keeper {keeper.image_id[:16]}{more}")


def _threshold_figure(ctx: StageContext[DedupParams], count: int, edges: Edges) -> None:
    """Images kept against the copy threshold: what another threshold would do."""
    threshold, limits = ctx.params.threshold, limits_of(ctx.params)
    values = np.unique(np.r_[np.linspace(max(0.0, threshold - ctx.params.slack), 1.0, 41), threshold])
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(values, kept_at(count, edges, [replace(limits, threshold=float(v)) for v in values]), color="#2f6fde")
    axes.axvline(threshold, color="#888", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    axes.set_xlabel("copy threshold (cosine)")
    axes.set_ylabel("images kept")
    axes.set_ylim(0, count * 1.05)
    axes.set_title(f"Images kept of {count}, other edges unchanged", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(ctx.report / "threshold.png", dpi=110)
