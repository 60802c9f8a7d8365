"""The gate of a promotion: what lets a model through and what stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.register.gate import Evidence, Verdict, independent_difference, judge
from training.evaluation.intervals import wilson_interval

QUERIES = 400


def figures(right: int, gain: float = 0.2, prefix: str = "") -> dict[str, float]:
    """A probe that got `right` of the queries, `gain` above the untrained network."""
    low, high = wilson_interval(right, QUERIES)
    found = {"knn_trained": right / QUERIES, "knn_trained_lo": low, "knn_trained_hi": high}
    found |= {"knn_gain_over_untrained": gain, "knn_gain_over_untrained_lo": gain - 0.1}
    found |= {"knn_gain_over_untrained_hi": gain + 0.1}
    return {f"{prefix}{name}": value for name, value in found.items()}


def evidence(right: int, gain: float = 0.2, folder: Path | None = None, **record: Any) -> Evidence:
    digests = {"bank": "b", "queries": "q"}
    plain = {"protocol": {"id": "v1"}, "split": {"digests": digests}, "metrics": figures(right, gain)}
    return Evidence(f"model of {right}", plain | record, folder)


def failing(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.holds]


def test_the_first_model_has_to_beat_an_untrained_network_alone() -> None:
    assert judge(evidence(300), None).passed
    assert failing(judge(evidence(300, gain=0.05), None)) == ["knn above untrained"]


def test_a_model_without_labelled_images_cannot_be_judged() -> None:
    assert failing(judge(evidence(300, metrics={"rankme_trained": 9.0}), None)) == ["measured"]


@pytest.mark.parametrize(("right", "failed"), [(320, []), (290, []), (240, ["knn not worse"])])
def test_not_worse_means_within_the_interval(right: int, failed: list[str]) -> None:
    assert failing(judge(evidence(right), evidence(300))) == failed


def test_other_protocols_and_images_cannot_be_compared_but_waived() -> None:
    other = evidence(100, protocol={"id": "v2"})
    assert failing(judge(evidence(300), other)) == ["comparable"]
    assert judge(evidence(300), other, waived=["comparable"]).passed
    moved = evidence(100, split={"digests": {"bank": "b", "queries": "x"}})
    (check,) = (check for check in judge(evidence(300), moved).checks if check.name == "comparable")
    assert not check.holds and "the held-out images" in check.text


def test_evaluation_sets_count_and_must_be_guarded() -> None:
    sets = {"birds": {"split": {"digests": {"queries": "w"}}}}
    metrics = figures(300) | figures(250, prefix="birds/")
    champion = evidence(0, metrics=metrics, sets=sets)
    worse = evidence(0, metrics=figures(320) | figures(150, prefix="birds/"), sets=sets)
    assert failing(judge(worse, champion)) == ["knn on birds not worse"]
    assert failing(judge(evidence(320), champion)) == ["comparable"]
    open_sets = {"birds": {**sets["birds"], "unguarded": "no guard ran"}}
    unguarded = evidence(0, metrics=metrics, sets=open_sets)
    assert failing(judge(unguarded, champion)) == ["guarded"]
    assert judge(unguarded, champion, waived=["guarded"]).passed


def write_predictions(folder: Path, correct: np.ndarray, ids: list[str]) -> Path:
    folder.mkdir()
    truth = np.zeros(len(ids), np.int64)
    table = pa.table({"image_id": ids, "truth": truth, "knn_trained": np.where(correct, 0, 1).astype(np.int64)})
    with pa.OSFile(str(folder / "predictions.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return folder


def test_predictions_of_both_make_the_test_paired_and_sharper(tmp_path: Path) -> None:
    """Fifteen images lost and none won is clearly worse by pairs, and within the noise of two shares."""
    ids = [f"image{n}" for n in range(QUERIES)]
    right = np.arange(QUERIES) < 300
    worse = np.arange(QUERIES) < 285
    champion = evidence(300, folder=write_predictions(tmp_path / "a", right, ids))
    candidate = evidence(285, folder=write_predictions(tmp_path / "b", worse[::-1], ids[::-1]))
    assert failing(judge(candidate, champion)) == ["knn not worse"]
    assert failing(judge(evidence(285), champion)) == []
    same_count = evidence(285, folder=write_predictions(tmp_path / "c", worse, [f"other{n}" for n in range(QUERIES)]))
    assert "unpaired" in judge(same_count, champion).checks[-1].text


def test_the_unpaired_interval_is_newcombes() -> None:
    """56 of 70 against 48 of 80, example (a) of the paper: .2000, .0524 to .3339."""
    own, other = ((n / of, *wilson_interval(n, of)) for n, of in ((56, 70), (48, 80)))
    assert independent_difference(own, other) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_unpaired_interval_turns_with_the_sides(left: int, right: int) -> None:
    own, other = ((n / 400, *wilson_interval(n, 400)) for n in (left, right))
    value, low, high = independent_difference(own, other)
    assert low <= value <= high
    assert independent_difference(other, own) == pytest.approx((-value, -high, -low))


def test_evidence_is_read_from_a_metrics_artifact(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(evidence(300).record))
    assert Evidence.of("m", tmp_path).splits() == {"": {"bank": "b", "queries": "q"}}
