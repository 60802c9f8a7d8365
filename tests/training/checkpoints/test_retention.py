from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.checkpoints.trainings import training
from training.checkpoints import Checkpoints, Retention, committed_steps

scores = st.dictionaries(st.integers(1, 60), st.none() | st.floats(-5, 5) | st.just(math.nan), min_size=1, max_size=20)


@given(scores=scores, last=st.integers(1, 4), best=st.integers(0, 4), every=st.integers(0, 7), high=st.booleans())
def test_newest_best_and_regular_ones_stay(
    scores: dict[int, float | None], last: int, best: int, every: int, high: bool
) -> None:
    kept = Retention(last, best, "knn", high, every).kept(scores)
    assert set(sorted(scores)[-last:]) <= kept <= scores.keys()
    if every:
        assert {step for step in scores if step % every == 0} <= kept
    rated = {step: s for step, s in scores.items() if s is not None and not math.isnan(s)}
    order = sorted(rated, key=lambda step: (-rated[step] if high else rated[step], step))
    assert set(order[:best]) <= kept
    others = kept - set(sorted(scores)[-last:]) - set(order[:best])
    assert all(every and step % every == 0 for step in others)


def test_folders_that_need_not_stay_go(tmp_path: Path) -> None:
    figures = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.9, 5: None, 6: 0.2, 7: 0.3}
    state = training(0)
    with Checkpoints(tmp_path, keep_last=2, keep_best=1, metric="knn", keep_every=3) as checkpoints:
        for step, figure in figures.items():
            checkpoints.save(step, state, {} if figure is None else {"knn": figure, "loss": 1.0})
    assert committed_steps(tmp_path) == [2, 3, 6, 7]
    with Checkpoints(tmp_path, keep_last=1, keep_best=1, metric="loss", higher_is_better=False) as checkpoints:
        checkpoints.save(8, state, {"loss": 2.0})
    assert committed_steps(tmp_path) == [2, 8]
    assert {path.name for path in tmp_path.iterdir()} == {"step-000000002", "step-000000008"}


def test_limits_without_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path, keep_last=0)
    with pytest.raises(ValueError, match="name of the metric"):
        Checkpoints(tmp_path, keep_best=1)
