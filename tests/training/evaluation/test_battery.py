"""The battery of measures: complete, the same as its parts, and of a versioned protocol."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.evaluation.classes import gaussian_classes
from training.evaluation.battery import label_free_battery, labelled_battery
from training.evaluation.clid import two_nn_dimension
from training.evaluation.lidar import lidar
from training.evaluation.linear_probe import linear_probe
from training.evaluation.low_shot import low_shot
from training.evaluation.protocol import PROTOCOLS, V1, V2
from training.evaluation.rank import rankme
from training.evaluation.retrieval import retrieval
from training.evaluation.ridge import ridge_probe
from training.evaluation.sphere import tolerance

QUICK = replace(V2, id="test", resamples=50, k_grid=(5,), regularisations=(1e-2, 1e-1), draws=2, max_retrieval=60)


@pytest.fixture(scope="module")
def problem():
    return gaussian_classes(n=160, q=80)


def test_labelled_figures_are_those_of_the_parts(problem):
    bank, labels, queries, truth = problem
    seen = []
    found = labelled_battery(bank, labels, queries, truth, QUICK, seed=0, progress=seen.append)
    assert seen == ["knn and linear", "ridge", "interpolation", "low shot", "retrieval"]
    linear = linear_probe(bank, labels, queries, regularisations=(1e-2, 1e-1))
    assert found["linear"] == pytest.approx((linear.predictions == truth).mean())
    assert found["linear_c"] == linear.regularisation
    assert found["ridge"] == pytest.approx((ridge_probe(bank, labels, queries).predictions == truth).mean())
    shots = low_shot(bank, labels, queries, truth, seeds=(0, 1))
    assert found["5_shot"] == shots[4].mean
    assert found["5_shot_lo"] == shots[4].low
    assert {"knn_5", "knn_20", "1_percent", "10_percent_hi", "interpolation_share", "ece_lo", "brier"} <= set(found)
    rows = np.sort(np.random.default_rng(0).choice(80, 60, replace=False))
    part = retrieval(queries[rows], truth[rows], queries[rows], truth[rows], itself=np.arange(60))
    assert found["map"] == pytest.approx(part.mean_ap)
    assert found["recall_1"] == pytest.approx(part.recall[1])
    for name in ("knn", "linear", "ridge", "interpolation", "map", "recall_5"):
        assert found[f"{name}_lo"] <= found[name] <= found[f"{name}_hi"]
    assert found == labelled_battery(bank, labels, queries, truth, QUICK, seed=0)


def test_label_free_figures_are_those_of_the_parts(problem):
    bank, labels, _, _ = problem
    views = bank[:30, None] + 0.1 * np.random.default_rng(0).normal(size=(30, 4, 16))
    found = label_free_battery(bank, QUICK, seed=0, labels=labels, views=views)
    assert found["rankme"] == rankme(bank)
    assert found["intrinsic_dimension"] == two_nn_dimension(bank)
    assert found["tolerance"] == tolerance(bank, labels)
    assert found["lidar"] == lidar(views)
    plain = label_free_battery(bank, replace(QUICK, max_label_free=100), seed=0)
    assert not {"tolerance", "lidar", "alignment"} & set(plain)
    assert plain["rankme"] != found["rankme"]
    assert all(np.isfinite(value) for value in found.values())


def test_queries_without_a_second_image_of_any_class_have_no_retrieval(problem):
    bank, labels, queries, _ = problem
    found = labelled_battery(bank, labels, queries[:4], np.arange(4), QUICK, seed=0)
    assert "map" not in found


def test_protocols_are_json_and_the_old_one_is_what_it_was():
    assert PROTOCOLS == {"curatrain-v1": V1, "curatrain-v2": V2}
    assert json.loads(json.dumps(V2.settings()))["k_grid"] == [10, 20, 100, 200]
    assert set(V1.settings()) == {
        "id", "neighbours", "temperature", "regularisations", "selection_share", "rank_eps", "confidence",
        "resamples", "pixel_side",
    }  # fmt: skip
    assert len(V2.regularisations) == 23
    assert (V2.regularisations[0], V2.regularisations[-1]) == (pytest.approx(1e-6), pytest.approx(1e5))
