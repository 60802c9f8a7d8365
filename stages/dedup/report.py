"""What a person judges a deduplication by: groups, the pairs around its threshold, and what another one would keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from curation.duplicates import Edges, Verdicts, kept_by_threshold
from curation.galleries import Section, Tile, gallery_html
from stages.pictures import Picture, read_pictures

if TYPE_CHECKING:
    from stages.base import StageContext
    from stages.dedup import DedupParams

_GROUPS, _MEMBERS, _PAIRS = 36, 12, 12


def write_report(ctx: StageContext[DedupParams], ids: list[str], edges: Edges, found: Verdicts) -> None:
    """Write `report/duplicates.html` and `report/threshold.png`."""
    groups = _largest_groups(found)
    above, below = _border_pairs(ctx.params.threshold, edges)
    rows = {row for members in groups for row in members}
    rows |= {int(row) for edge in [*above, *below] for row in (edges.i[edge], edges.j[edge])}
    pictures = read_pictures(ctx.inputs["images"], [ids[row] for row in rows])
    sections = [
        Section(
            f"Pairs just {side} the threshold",
            _pair_tiles(ids, edges, chosen, pictures),
            "Two pictures a pair." + more,
        )
        for side, chosen, more in (
            ("above", above, " These count as one image."),
            ("below", below, " These stay apart unless other edges join them."),
        )
    ]
    sections += [_group_section(ids, members, edges, found, pictures) for members in groups]
    note = (
        f"Of {len(ids)} images {int((found.edge >= 0).sum())} are dropped as near-duplicates. Groups: the keeper "
        "first (most pixels, then most bytes, then smallest id), dropped images grey with the edge that ties them: "
        "cosine of the embeddings, or differing bits of the perceptual hash."
    )
    html = gallery_html("Duplicate groups", sections, note)
    (ctx.report / "duplicates.html").write_text(html, encoding="utf-8")
    _threshold_figure(ctx, len(ids), edges)


def _largest_groups(found: Verdicts) -> list[list[int]]:
    """Rows of the largest groups and of an even sample of the rest, keepers first."""
    labels = found.groups.labels
    sizes = np.bincount(labels)
    several = [int(label) for label in np.argsort(-sizes, kind="stable") if sizes[label] > 1]
    rest = several[_GROUPS // 2 :]
    step = max(1, len(rest) // (_GROUPS // 2))
    groups = []
    for label in several[: _GROUPS // 2] + rest[::step][: _GROUPS // 2]:
        members = np.flatnonzero(labels == label)
        keeper = int(found.groups.keepers[members[0]])
        groups.append([keeper, *(int(row) for row in members if row != keeper)])
    return groups


def _border_pairs(threshold: float, edges: Edges) -> tuple[list[int], list[int]]:
    """Edges with the cosine nearest to the copy threshold, from above and from below."""
    order = np.argsort(edges.cosine, kind="stable")
    border = int(np.searchsorted(edges.cosine[order], threshold))
    return order[border : border + _PAIRS].tolist(), order[max(0, border - _PAIRS) : border][::-1].tolist()


def _pair_tiles(ids: list[str], edges: Edges, chosen: list[int], pictures: dict[str, Picture]) -> list[Tile]:
    tiles = []
    for edge in chosen:
        for row in (edges.i[edge], edges.j[edge]):
            picture = pictures[ids[row]]
            text = f"cos {edges.cosine[edge]:.3f} · {edges.hamming[edge]} bits · {picture.caption or ids[row][:8]}"
            tiles.append(Tile(picture.bytes, text, False, picture.orientation))
    return tiles


def _group_section(
    ids: list[str], members: list[int], edges: Edges, found: Verdicts, pictures: dict[str, Picture]
) -> Section:
    tiles = []
    for row in members[:_MEMBERS]:
        picture, edge = pictures[ids[row]], found.edge[row]
        name = picture.caption or picture.label or ids[row][:8]
        if edge < 0:
            text = f"kept {picture.width}x{picture.height} · {name}"
        elif edges.copy[edge]:
            text = f"cos {edges.cosine[edge]:.3f} · {name}"
        else:
            text = f"{edges.hamming[edge]} bits, cos {edges.cosine[edge]:.3f} · {name}"
        tiles.append(Tile(picture.bytes, text, edge >= 0, picture.orientation))
    more = f", {_MEMBERS} of them shown" if len(members) > _MEMBERS else ""
    keeper = pictures[ids[members[0]]]
    return Section(
        f"{len(members)} images: {keeper.caption or ids[members[0]][:12]}", tiles, f"Keeper {ids[members[0]]}{more}"
    )


def _threshold_figure(ctx: StageContext[DedupParams], count: int, edges: Edges) -> None:
    """Images kept against the copy threshold, from the looser edges: what another threshold would do."""
    threshold = ctx.params.threshold
    values = np.unique(np.r_[np.linspace(max(0.0, threshold - 0.1), 1.0, 41), threshold])
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(values, kept_by_threshold(count, edges, values.tolist()), color="#2f6fde")
    axes.axvline(threshold, color="#888", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    axes.set_xlabel("copy threshold (cosine)")
    axes.set_ylabel("images kept")
    axes.set_ylim(0, count * 1.05)
    axes.set_title(f"Images kept of {count}, perceptual edges unchanged", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(ctx.report / "threshold.png", dpi=110)
