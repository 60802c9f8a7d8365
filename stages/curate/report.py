"""What a person judges a selection by: clusters, kept and dropped images, classes and cluster sizes."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from curation.galleries import Section, Tile, balance, class_histogram, contact_sheet, gallery_html
from curation.sampling import id_keys
from stages.pictures import read_pictures

if TYPE_CHECKING:
    from stages.base import StageContext
    from stages.curate import CurateParams
    from stages.curate.selecting import Choice, Pool

_CLUSTERS, _EACH, _SHEET = 60, 4, 80


def write_report(ctx: StageContext[CurateParams], pool: Pool, choice: Choice) -> dict[str, float]:
    """Write the report's files; returns the balance (entropy over its maximum) of clusters and classes as metrics."""
    leaves, leaf = np.unique(choice.paths, axis=0, return_inverse=True)
    leaf = leaf.reshape(-1)
    sizes = np.bincount(leaf, minlength=len(leaves))
    kept = np.bincount(leaf[choice.train], minlength=len(leaves))
    held = np.bincount(leaf[choice.holdout], minlength=len(leaves))
    names = [".".join(map(str, path)) for path in leaves]
    with (ctx.report / "clusters.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cluster", "images", "train", "holdout"])
        writer.writerows(zip(names, sizes.tolist(), kept.tolist(), held.tolist(), strict=True))
    _cluster_gallery(ctx, pool, choice, leaf, names)
    _contact_sheets(ctx, pool, choice)
    _size_figure(ctx, sizes, kept)
    metrics = {
        "cluster_balance_before": balance(dict(zip(names, sizes.tolist(), strict=True))),
        "cluster_balance_after": balance(dict(zip(names, kept.tolist(), strict=True))),
    }
    before, unique, after = (
        _class_counts(pool, rows)
        for rows in (range(len(pool.ids)), pool.members.tolist(), pool.members[choice.train].tolist())
    )
    if before:
        figure = class_histogram(before, after)
        figure.savefig(ctx.report / "classes.png", dpi=110)
        metrics |= {
            "class_balance_before": balance(before),
            "class_balance_deduplicated": balance(unique),
            "class_balance_after": balance(after),
        }
    return metrics


def _class_counts(pool: Pool, rows: Iterable[int]) -> dict[str, int]:
    """Images of each label among `rows`; labels of the pool that have none there count 0."""
    counts = dict.fromkeys(sorted({label for label in pool.labels if label is not None}), 0)
    for row in rows:
        label = pool.labels[row]
        if label is not None:
            counts[label] += 1
    return counts


def _cluster_gallery(
    ctx: StageContext[CurateParams], pool: Pool, choice: Choice, leaf: NDArray[np.int64], names: list[str]
) -> None:
    """`report/clusters.html`: of the largest clusters and an even sample of the rest, central, random and border."""
    sizes = np.bincount(leaf, minlength=len(names))
    order = np.argsort(-sizes, kind="stable")
    rest = order[_CLUSTERS // 2 :]
    shown = [*order[: _CLUSTERS // 2], *rest[:: max(1, len(rest) // (_CLUSTERS // 2))][: _CLUSTERS // 2]]
    picks = {int(cluster): _exemplars(pool, choice, np.flatnonzero(leaf == cluster)) for cluster in shown}
    wanted = [pool.ids[pool.members[member]] for members in picks.values() for member, _ in members]
    pictures = read_pictures(ctx.inputs["images"], wanted)
    sections = []
    for cluster, members in picks.items():
        inside = leaf == cluster
        tiles = []
        for member, place in members:
            picture = pictures[pool.ids[pool.members[member]]]
            role = "train" if choice.train[member] else "holdout" if choice.holdout[member] else "dropped"
            text = f"{place}, {role} · {picture.caption or picture.label or picture.image_id[:8]}"
            tiles.append(Tile(picture.bytes, text, role == "dropped", picture.orientation))
        title = f"Cluster {names[cluster]}: {sizes[cluster]} images, {int(choice.train[inside].sum())} train"
        detail = f"{int(choice.holdout[inside].sum())} held out; mean cosine {choice.scores[inside].mean():.2f}"
        sections.append(Section(title, tiles, detail))
    note = (
        "Of each cluster: its most central images, random ones, and those at its border. Grey: dropped, since the "
        "cluster has more images than its share."
    )
    html = gallery_html(f"{len(names)} clusters of {len(leaf)} images", sections, note)
    (ctx.report / "clusters.html").write_text(html, encoding="utf-8")


def _exemplars(pool: Pool, choice: Choice, members: NDArray[np.int64]) -> list[tuple[int, str]]:
    """Up to 4 central, 4 random and 4 border members of a cluster, none twice."""
    central = members[np.argsort(-choice.scores[members], kind="stable")]
    keys = id_keys([pool.ids[pool.members[member]] for member in members], 0, "cluster gallery")
    chance = members[np.argsort(keys, kind="stable")]
    chosen: dict[int, str] = {}
    for place, candidates in (("central", central), ("border", central[::-1]), ("random", chance)):
        fresh = [int(member) for member in candidates if int(member) not in chosen][:_EACH]
        chosen |= dict.fromkeys(fresh, place)
    rank = {"central": 0, "random": 1, "border": 2}
    return sorted(chosen.items(), key=lambda item: rank[item[1]])


def _contact_sheets(ctx: StageContext[CurateParams], pool: Pool, choice: Choice) -> None:
    """`report/kept.png` and `report/dropped.png`: fixed random samples, dropped images with their reason."""
    dropped = dict(pool.reasons)
    dropped |= {int(row): "over_quota" for row in pool.members[~choice.train & ~choice.holdout]}
    kept = dict.fromkeys((int(row) for row in pool.members[choice.train]), "")
    for name, rows in (("kept", kept), ("dropped", dropped)):
        numbers = sorted(rows)
        keys = id_keys([pool.ids[row] for row in numbers], 0, "contact sheet")
        chosen = [numbers[index] for index in np.argsort(keys, kind="stable")[:_SHEET]]
        if not chosen:
            continue
        pictures = read_pictures(ctx.inputs["images"], [pool.ids[row] for row in chosen])
        tiles = []
        for row in chosen:
            picture = pictures[pool.ids[row]]
            tiles.append(Tile(picture.bytes, rows[row] or picture.caption, name == "dropped", picture.orientation))
        contact_sheet(tiles).save(ctx.report / f"{name}.png")


def _size_figure(ctx: StageContext[CurateParams], sizes: NDArray[np.int64], kept: NDArray[np.int64]) -> None:
    """`report/sizes.png`: images of each leaf cluster before and after, largest first."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(-sizes, kind="stable")
    places = np.arange(len(order))
    axes.fill_between(places, sizes[order], step="mid", color="#b8bec9", label="before")
    axes.fill_between(places, kept[order], step="mid", color="#2f6fde", label="train")
    axes.set_xlabel("leaf clusters, largest first")
    axes.set_ylabel("images")
    axes.set_ylim(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(ctx.report / "sizes.png", dpi=110)
