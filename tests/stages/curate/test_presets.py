from __future__ import annotations

import math
from collections import Counter
from typing import get_args

import pytest

from pipelines.recipe import keyed_params
from stages.curate import Curate, CurateParams
from stages.curate.clusters import scaled_count
from stages.curate.presets import PRESETS, preset_params
from tests.stages.curate.handmade import SIZES, pictures, write_pool
from tests.stages.pool import artifact_of


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_parameters_and_the_plan_shows_them(name):
    made = CurateParams(preset=name)
    spelled = preset_params(name)
    assert CurateParams(**spelled) == made
    del spelled["preset"]
    assert keyed_params(CurateParams(**spelled)) == keyed_params(made)
    assert CurateParams.model_validate(made.model_dump()) == made
    (remark,) = Curate(made).remarks()
    assert remark.startswith(f"preset {name}: method {made.method}")


def test_what_is_given_goes_before_the_preset():
    made = CurateParams(preset="dinov2", target=77, retrieval={"per_query": 9})
    assert (made.target, made.retrieval.per_query, made.retrieval.by) == (77, 9, "auto")
    assert made.method == "mixture"
    with pytest.raises(ValueError, match="preset"):
        CurateParams(preset="dinov9")


def test_the_parameter_knows_every_preset():
    annotation = CurateParams.model_fields["preset"].annotation
    assert {name for part in get_args(annotation) for name in get_args(part)} == set(PRESETS)


@pytest.mark.parametrize(("name", "paper"), [("dinov2", 744e6), ("dinov3", 17e9), ("semdedup", 440e6)])
def test_scaled_counts_are_the_papers_at_the_papers_size(name, paper):
    scaled, full = CurateParams(preset=name), CurateParams(preset=f"{name}-full")
    assert len(scaled.cluster_counts) == len(full.cluster_counts)
    for exponent, count in zip(scaled.cluster_counts, full.cluster_counts, strict=True):
        assert scaled_count(exponent, round(paper)) == pytest.approx(count, rel=2e-3)
    if isinstance(full.target, int):
        assert scaled.target == pytest.approx(full.target / paper, rel=0.01)
    small = [scaled_count(exponent, 5000) for exponent in scaled.cluster_counts]
    assert small == sorted(set(small), reverse=True)


def test_simcore_scales_its_centroids():
    assert scaled_count(CurateParams(preset="simcore").simcore.centroids, 1_281_167) == 100
    assert CurateParams(preset="simcore-full").simcore.centroids == 100


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.endswith("-full")])
def test_every_scaled_preset_runs_on_a_small_pool(name, tmp_path):
    inputs = write_pool(tmp_path / "in", pictures(SIZES), pictures({"cat": 6, "owl": 6}, "birds"))
    params = {"preset": name, "iterations": 5}
    rounds = {} if "rounds" in PRESETS[name] else {"rounds": 1}
    made = artifact_of(Curate, {**params, **rounds}, tmp_path / "out", inputs)
    rows = made.table().to_pylist()
    pool = sum(SIZES.values())
    joined = sum(row["reason"] == "seed:birds" for row in rows)
    target = CurateParams(preset=name).target
    trained = sum(row["role"] == "train" for row in rows) - joined
    assert joined == (12 if name in ("dinov2", "dinov3", "simcore") else 0)
    assert 0 < trained <= math.ceil(target * pool)
    if name in ("semdedup", "d4", "random", "dinov3"):
        assert trained == round(target * pool)
    if name == "d4":
        reasons = Counter(row["reason"] for row in rows)
        assert reasons["prototype"] == round(0.15 * pool) and reasons["semantic"] == round(0.25 * pool)
