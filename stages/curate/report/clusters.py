"""The section with the tree of clusters, for walking from the whole pool down to single clusters."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from curation.cluster_tree import Node, cluster_nodes
from curation.coverage import coverage_figures
from curation.review_page import PageSection, paragraph, table_html
from stages.artifact import Artifact
from stages.curate.report.album import Album
from stages.curate.report.findings import Findings


def clusters_section(found: Findings, images: Artifact, album: Album, budget: int) -> PageSection:
    """The tree browser, with as many pictures of each cluster as `budget` bytes allow."""
    if not len(found.clustered):
        return PageSection("clusters", "Clusters", paragraph("This selection was made without clusters."))
    nodes = cluster_nodes(found.paths, found.vectors)
    album.put(images, [found.ids[found.clustered[row]] for row in _by_turns(nodes)], budget)
    note = (
        "Choose a cluster to look inside. Grey bars: all images of the cluster; blue: those that train. Grey "
        "pictures are dropped."
    )
    body = (
        paragraph(note) + _levels(found) + '<div id="crumbs"></div><div id="here"></div>'
        "<noscript><p>Walking the tree needs JavaScript; clusters.csv has all its sizes.</p></noscript>"
    )
    return PageSection("clusters", "Clusters", body, {"tree": {"nodes": _entries(found, nodes, album)}})


def _by_turns(nodes: list[Node]) -> list[int]:
    """Members to show: first the most central one of every node, then the farthest one, then the next, and so on."""
    lists = [[*_alternating(node.near, node.far)] for node in nodes]
    return [row for turn in zip_longest(*lists) for row in turn if row is not None]


def _alternating(near: list[int], far: list[int]) -> list[int]:
    return [row for pair in zip_longest(near, far) for row in pair if row is not None]


def _entries(found: Findings, nodes: list[Node], album: Album) -> list[dict[str, object]]:
    train, holdout = (np.array([role == name for role in found.roles]) for name in ("train", "holdout"))
    entries: list[dict[str, object]] = []
    for node in nodes:
        rows = found.clustered[node.rows]
        entries.append(
            {
                "name": node.name,
                "parent": node.parent,
                "size": len(rows),
                "train": int(train[rows].sum()),
                "holdout": int(holdout[rows].sum()),
                "hidden": node.hidden,
                "cosine": round(node.cosine, 3),
                "near": [_shown(found, album, row) for row in node.near],
                "far": [_shown(found, album, row) for row in node.far],
            }
        )
    return entries


def _shown(found: Findings, album: Album, member: int) -> tuple[int, str, int]:
    row = int(found.clustered[member])
    return album.entry(found.ids[row], dropped=found.roles[row] == "dropped")


def _levels(found: Findings) -> str:
    """A row for each level: clusters, their sizes before and after, and how even both are."""
    train = np.array([found.roles[row] == "train" for row in found.clustered])
    rows = []
    for depth in range(found.paths.shape[1]):
        _, cluster = np.unique(found.paths[:, : depth + 1], axis=0, return_inverse=True)
        cluster = cluster.reshape(-1)
        before = np.bincount(cluster)
        after = np.bincount(cluster[train], minlength=len(before))
        even = [
            coverage_figures({str(n): int(count) for n, count in enumerate(counts)})["effective"]
            for counts in (before, after)
        ]
        sizes = [f"{counts.min():,} / {int(np.median(counts)):,} / {counts.max():,}" for counts in (before, after)]
        name = f"{depth + 1}" + (" (leaves)" if depth == found.paths.shape[1] - 1 else "")
        rows.append([name, f"{len(before):,}", *sizes, *(f"{value:,.1f}" for value in even)])
    head = [
        "level",
        "clusters",
        "size (min / median / max)",
        "trained of it",
        "effective number",
        "effective, trained",
    ]
    return table_html(head, rows)
