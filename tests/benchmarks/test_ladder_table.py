"""The ladder's table: gains, intervals, and which runs count."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.ladder import rungs
from tests.benchmarks.ladder_table import gain, printed, table_rows
from training.evaluation.intervals import difference_interval


def entry(objective: str, seed: int, right: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    """A kept run whose probes were right as `right` says, by set."""
    sets = {
        name: {
            "right": dict.fromkeys(("knn", "linear"), base64.b64encode(np.packbits(values).tobytes()).decode()),
            "queries": len(values),
        }
        for name, values in right.items()
    }
    accuracy = float(np.mean([values.mean() for values in right.values()]))
    plain = {"objective": objective, "backbone": "vit", "seed": seed, "budget": 60, "recipe": "a", "at": "2026-01-01"}
    return {**plain, "knn": accuracy, "linear": accuracy, "sets": sets, **more}


def drawn(seed: int, share: float, count: int = 600) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


def test_gain_of_one_set_agrees_with_the_paired_bootstrap() -> None:
    ours, theirs = drawn(0, 0.6), drawn(1, 0.5)
    mean, low, high = gain([entry("a", 0, {"x": ours})], [entry("b", 0, {"x": theirs})], "knn")
    expected = difference_interval(ours, theirs, seed=0, resamples=20_000)
    assert mean == pytest.approx(ours.mean() - theirs.mean())
    assert (low, high) == pytest.approx(expected, abs=0.004)


def test_each_set_counts_alike_however_large() -> None:
    right = {"small": np.ones(10, bool), "large": np.zeros(1000, bool)}
    wrong = {"small": np.zeros(10, bool), "large": np.zeros(1000, bool)}
    mean, low, high = gain([entry("a", 0, right)], [entry("b", 0, wrong)], "knn")
    assert mean == low == high == pytest.approx(0.5)


def test_gain_narrows_with_seeds_that_err_on_different_pictures() -> None:
    untrained = [entry("b", 0, {"x": drawn(99, 0.5)})]
    one = gain([entry("a", 0, {"x": drawn(0, 0.6)})], untrained, "knn")
    many = gain([entry("a", s, {"x": drawn(s, 0.6)}) for s in range(8)], untrained, "knn")
    assert many[2] - many[1] < 0.85 * (one[2] - one[1])


def test_only_runs_of_the_newest_recipe_and_the_budget_count() -> None:
    kept = [
        entry("simclr", 0, {"x": drawn(0, 0.2)}, recipe="old", at="2026-01-01"),
        entry("simclr", 1, {"x": drawn(1, 0.7)}, recipe="new", at="2026-01-02"),
        entry("simclr", 2, {"x": drawn(2, 0.7)}, recipe="new", at="2026-01-03"),
        entry("simclr", 3, {"x": drawn(3, 0.9)}, recipe="new", at="2026-01-03", budget=600),
        entry("untrained", 0, {"x": drawn(4, 0.5)}, budget=1),
    ]
    trained, untrained = table_rows(kept, {"vit": 60})
    assert (trained["objective"], trained["seeds"]) == ("simclr", 2)
    assert trained["knn_lo"] < trained["knn"] == pytest.approx((kept[1]["knn"] + kept[2]["knn"]) / 2, abs=1e-4)
    assert trained["knn_gain"] == pytest.approx(trained["knn"] - untrained["knn"], abs=2e-4)
    assert "knn_gain" not in untrained and "knn_lo" not in untrained
    assert len(printed([trained, untrained]).splitlines()) == 4


def test_objectives_run_on_the_backbones_that_they_take() -> None:
    asked = ["pixels", "untrained", "mae", "simclr"]
    keys = [rung.key for rung in rungs(asked, ["vit", "resnet18"], [0, 1], {"vit": 60, "resnet18": 240})]
    assert keys[:6] == [
        "pixels/-/seed-0/0s",
        "untrained/vit/seed-0/0s",
        "untrained/resnet18/seed-0/0s",
        "mae/vit/seed-0/60s",
        "simclr/vit/seed-0/60s",
        "simclr/resnet18/seed-0/240s",
    ]
    assert len(keys) == 11
