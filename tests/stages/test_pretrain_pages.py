"""The pages of a training: what every objective sees, and how the training went."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.artifact import Artifact
from stages.base import StageContext
from stages.in_process import InProcess
from stages.pretrain import PretrainParams
from stages.pretrain.planning import make_plan
from stages.pretrain.training_page import training_page
from stages.pretrain.views_page import views_page
from tests.browser import browser, drawn, opened  # noqa: F401
from tests.training.samples import sample_rows, write_sample_shards
from training.collapse import REMEDIES
from training.objectives import catalogue
from training.plan import PretrainingPlan
from training.recipes import ViewRecipe
from training.shards import SAMPLES, ShardReader, write_index, write_shard

MASKED = {"dinov2", "ibot", "ijepa", "mae", "maskfeat", "msn", "simmim", "weighted_sum"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    return ShardReader(write_sample_shards(tmp_path_factory.mktemp("shards") / "shards", 24))


def plan_of(reader: ShardReader, work: Path, **params: Any) -> PretrainingPlan:
    artifact = Artifact("shards", "shard", "key", "digest", Path(reader.folder).parent, {})
    given = PretrainParams(**{"preset": "small", "batch": 8, "steps": 6, **params})
    ctx = StageContext(given, work, {"shards": artifact}, InProcess(), emit=lambda kind, fields: None)
    return make_plan(ctx, reader, 1, use_gpu=False)


@pytest.mark.parametrize("name", catalogue.names())
def test_every_objective_gets_a_picture_of_its_views_and_masks(name: str, shards: ShardReader, tmp_path: Path) -> None:
    plan = plan_of(shards, tmp_path, objective=name)
    page = views_page(shards, plan)
    views = ViewRecipe(**plan.views).views
    epochs = max(1, min(3, 12 // views))
    assert page.count("<img ") == 8 * (1 + views * epochs)
    assert page.count("<rect ") == 8 * views + (8 * epochs * plan.objective["targets"] if name == "ijepa" else 0)
    assert page.count('class="sample"') == 8
    assert ('class="mask"' in page) == (name in MASKED)
    assert "could not be drawn" not in page
    assert len(page) < 500_000
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_masks_cover_the_share_that_is_hidden(shards: ShardReader, tmp_path: Path) -> None:
    shape = {"backbone": "vit_tiny_patch16_224", "backbone_options": {"patch_size": 8}, "image_size": 64}
    page = views_page(shards, plan_of(shards, tmp_path, objective={"name": "mae", "mask_ratio": 0.5}, **shape))
    paths = re.findall(r'<path d="([^"]+)" fill', page)
    assert len(paths) == 24
    for path in paths:
        cells = re.findall(r"h([\d.e-]+)v([\d.e-]+)h-", path)
        assert sum(float(width) * float(height) for width, height in cells) == pytest.approx(0.5, abs=0.01)
    assert "50 % of the 8 x 8 patches" in page


def test_names_are_text_and_rows_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    rows = sample_rows(12)
    for row in rows:
        row["label"] = "<script>alert('x')</script>"
    rows[0]["bytes"] = b"no picture"
    table = pa.Table.from_pylist(rows, schema=SAMPLES)
    folder = tmp_path / "shards"
    write_index(folder, [write_shard(folder / "shard-0.arrow", table)], 12)
    reader = ShardReader(folder)
    page = views_page(reader, plan_of(reader, tmp_path))
    assert "<script>alert" not in page
    assert page.count(html.escape("<script>alert('x')</script>")) >= 8
    assert page.count('class="sample"') == 8
    assert "row 0<" not in page and "row 0&" not in page and ', row 0"' not in page


def test_an_objective_that_cannot_be_watched_says_why(shards: ShardReader, tmp_path: Path) -> None:
    plan = plan_of(shards, tmp_path, objective={"name": "maskfeat"})
    page = views_page(shards, replace(plan, objective={**plan.objective, "cells": 3}))
    assert "What is hidden could not be drawn: ValueError: cells: 3 do not tile" in page
    assert page.count('class="sample"') == 8


def lines_of(steps: int) -> list[dict[str, Any]]:
    lines = []
    for step in range(1, steps + 1):
        line: dict[str, Any] = {"step": step, "loss": 6 / step, "lr": 1e-3, "feature_std": 1 - step / steps}
        line |= {
            "grad_norm": 1.0,
            "grad_norm/backbone": 0.5,
            "grad_norm/head": 0.0,
            "koala": 3.0,
            "images_per_s": 99.0,
        }
        if step % 10 == 0:
            line |= {"rankme": 5.0 + step, "knn": step / (steps + 1)}
        if step in (7, 8, 30):
            line["diagnoses"] = ["complete collapse"]
        lines.append(line)
    return lines


def test_curves_sentinels_and_diagnoses_are_told(shards: ShardReader, tmp_path: Path) -> None:
    plan = plan_of(shards, tmp_path)
    page = training_page(plan, lines_of(40), [{"step": 12}])
    for title in ("loss: 0.15", "feature_std: 0", "knn: 0.9756", "koala: 3", "grad_norm of each part"):
        assert f"<h3>{title}</h3>" in page
    assert "7 to 8, 30" in page and html.escape(REMEDIES["complete collapse"], quote=True) in page
    assert "not finite: step 12" in page
    charts = page.count('role="img"')
    assert page.count("<rect ") == 2 * charts  # both spans in every chart
    assert re.search(r"<td>loss</td><td[^>]*>-1.00 ", page)  # the loss falls whenever the accuracy rises
    assert re.search(r"<td>rankme</td><td[^>]*>\+1.00 ", page)


def test_a_long_history_stays_small_and_keeps_its_ends(shards: ShardReader, tmp_path: Path) -> None:
    page = training_page(plan_of(shards, tmp_path), lines_of(20_000), [])
    assert len(page) < 400_000
    assert "loss: 0.0003" in page
    empty = training_page(plan_of(shards, tmp_path), [], [])
    assert "found nothing" in empty and "<svg" not in empty


def test_pages_are_drawn_at_600_pixels(browser: Any, shards: ShardReader, tmp_path: Path) -> None:  # noqa: F811
    views, course = tmp_path / "views.html", tmp_path / "training.html"
    views.write_text(views_page(shards, plan_of(shards, tmp_path, objective="dinov2")))
    course.write_text(training_page(plan_of(shards, tmp_path), lines_of(40), []))
    with opened(browser, views.as_uri(), tmp_path / "pretrain-views.png") as page:
        assert drawn(page) == views.read_text().count("<img ")
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        assert page.locator(".mask").first.is_visible()
        page.locator("#masks").uncheck()
        assert not page.locator(".mask").first.is_visible()
        page.locator("#masks").check()
    with opened(browser, course.as_uri(), tmp_path / "pretrain-training.png") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        boxes = page.eval_on_selector_all(".chart svg", "all => all.map(s => s.getBoundingClientRect().height)")
        assert np.min(boxes) > 60
