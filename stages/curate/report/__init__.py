"""What a curation team reviews a selection by: one page of counts, clusters, coverage, duplicates and drops."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from curation.page_shell import text_html
from curation.review_page import PageSection, Thumbnails, page_html
from stages.curate.report.album import Album
from stages.curate.report.clusters import clusters_section
from stages.curate.report.coverage import class_counts, cluster_counts, coverage_metrics, coverage_section
from stages.curate.report.drops import drops_section
from stages.curate.report.duplicates import duplicate_metrics, duplicates_section
from stages.curate.report.figures import contact_sheets, draw_classes, draw_sizes
from stages.curate.report.findings import Findings, read_findings
from stages.curate.report.funnel import funnel, funnel_html
from stages.curate.report.retrieval import retrieval_section
from stages.curate.writing import RETRIEVED

if TYPE_CHECKING:
    from stages.base import StageContext
    from stages.curate import CurateParams
    from stages.curate.selecting import Choice, Pool

_CLUSTERS, _DUPLICATES, _DROPS, _RETRIEVAL = 750_000, 220_000, 180_000, 220_000
"""Bytes that the pictures of each section may take; texts and the tree take the rest of 2 MB."""


def write_report(ctx: StageContext[CurateParams], pool: Pool, choice: Choice) -> dict[str, float]:
    """Write the report of the selection that stands in `ctx.work`; returns the figures of coverage and duplicates."""
    del choice
    found = read_findings(ctx, pool)
    (ctx.report / "curation.html").write_text(review_page(ctx, found), encoding="utf-8")
    _write_clusters(ctx, found)
    contact_sheets(ctx, found)
    classes = class_counts(found)
    if classes:
        draw_classes(ctx, classes["before"], classes["after"])
    return coverage_metrics(found) | duplicate_metrics(found)


def review_page(ctx: StageContext[CurateParams], found: Findings) -> str:
    """The HTML of `report/curation.html`."""
    images, quality = ctx.inputs["images"], ctx.inputs.get("quality")
    seeds = (ctx.inputs["seed_images"], ctx.inputs["seed_embeddings"]) if "seed_embeddings" in ctx.inputs else None
    album = Album(Thumbnails())
    sections: list[PageSection | None] = [
        clusters_section(found, images, album, _CLUSTERS),
        coverage_section(found),
        duplicates_section(found, images, album, _DUPLICATES),
        drops_section(found, images, quality, album, _DROPS),
        retrieval_section(found, images, seeds, ctx.work / RETRIEVED, album, _RETRIEVAL),
    ]
    train, count = found.roles.count("train"), len(found.ids)
    params = ctx.params
    told = f"{params.method}, target {params.target}, seed {params.seed}"
    lead = f"<p>{text_html(told)}</p>{funnel_html(funnel(found))}"
    title = f"{train:,} of {count:,} images train"
    return page_html(title, lead, [section for section in sections if section is not None], album.thumbnails)


def _write_clusters(ctx: StageContext[CurateParams], found: Findings) -> None:
    """`report/clusters.csv` and `report/sizes.png`: every leaf cluster before and after."""
    if not len(found.clustered):
        return
    before, after = cluster_counts(found)
    held = dict.fromkeys(before, 0)
    for row, path in zip(found.clustered, found.paths.tolist(), strict=True):
        held[".".join(map(str, path))] += found.roles[row] == "holdout"
    with (ctx.report / "clusters.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cluster", "images", "train", "holdout"])
        writer.writerows([name, count, after[name], held[name]] for name, count in before.items())
    draw_sizes(ctx, np.array(list(before.values())), np.array(list(after.values())))
