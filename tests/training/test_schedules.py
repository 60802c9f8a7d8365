from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.schedules import Schedule, scaled_lr

NAMES = ("constant", "linear", "cosine", "trapezoid")
values = st.floats(0.0, 10.0)


def _dino(base: float, final: float, steps: int, warmup: int = 0) -> np.ndarray:
    """DINO's published schedule, evaluated in one go: half a cosine after the warm-up."""
    i = np.arange(steps - warmup)
    return final + 0.5 * (base - final) * (1 + np.cos(np.pi * i / len(i)))


@pytest.mark.parametrize(("base", "final"), [(0.04, 0.4), (0.992, 1.0), (0.0005, 1e-6)])
def test_cosine_is_the_one_of_dino(base: float, final: float) -> None:
    schedule = Schedule("cosine", peak=base, end=final)
    found = [schedule.at(step, 1000) for step in range(1000)]
    assert found == pytest.approx(_dino(base, final, 1000).tolist(), rel=1e-12)
    warm = Schedule("cosine", peak=base, end=final, warmup=0.1)
    assert [warm.at(s, 1000) for s in range(100, 1000)] == pytest.approx(_dino(base, final, 1000, 100).tolist())


def test_golden_values() -> None:
    weight_decay, momentum = Schedule("cosine", peak=0.04, end=0.4), Schedule("cosine", peak=0.992, end=1.0)
    assert [weight_decay.at(s, 4) for s in range(5)] == pytest.approx([0.04, 0.0927207793, 0.22, 0.3472792206, 0.4])
    assert momentum.at(500, 1000) == pytest.approx(0.996)
    assert momentum.at(1000, 1000) == 1.0


def test_warm_up_rises_linearly_and_no_step_is_idle() -> None:
    by_share, by_steps = Schedule(warmup=0.1, peak=2.0), Schedule(warmup_steps=10, peak=2.0)
    for step in range(100):
        assert by_share.at(step, 100) == by_steps.at(step, 100)
    assert [by_share.at(s, 100) for s in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    temperature = Schedule("constant", start=0.04, peak=0.07, warmup=0.3)
    assert [temperature.at(s, 10) for s in range(10)] == pytest.approx([0.05, 0.06, *[0.07] * 8])


def test_a_trapezoid_is_flat_then_cools() -> None:
    linear = Schedule("trapezoid", peak=1.0, warmup=0.1, cooldown=0.2)
    assert [linear.at(s, 100) for s in (10, 50, 80)] == [1.0, 1.0, 1.0]
    assert linear.at(90, 100) == pytest.approx(0.5)
    assert linear.at(100, 100) == 0.0
    root = Schedule("trapezoid", peak=1.0, warmup=0.1, cooldown=0.2, cooldown_shape="sqrt")
    assert root.at(85, 100) == pytest.approx(1 - math.sqrt(0.25))


def test_frozen_steps_are_zero() -> None:
    schedule = Schedule("linear", peak=1.0, freeze=0.25, warmup=0.25)
    assert [schedule.at(s, 8) for s in range(9)] == pytest.approx([0, 0, 0.5, 1, 1, 0.75, 0.5, 0.25, 0])


shapes = st.builds(
    Schedule,
    name=st.sampled_from(NAMES),
    peak=values,
    end=values,
    start=values,
    warmup=st.one_of(st.just(0.0), st.floats(0.1, 0.4)),
    cooldown=st.floats(0.1, 0.4),
    cooldown_shape=st.just("linear"),
)


@given(schedule=shapes, steps=st.integers(50, 500))
def test_values_stay_between_the_ends_and_jump_nowhere(schedule: Schedule, steps: int) -> None:
    course = [schedule.at(step, steps) for step in range(steps + 1)]
    low, high = (pick(schedule.start, schedule.peak, schedule.end) for pick in (min, max))
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in course)
    steepest = math.pi / 2 * (high - low) / (0.1 * steps - 1)  # half a cosine over the shortest phase
    assert all(abs(later - earlier) <= steepest + 1e-9 for earlier, later in itertools.pairwise(course))


@given(schedule=shapes, steps=st.integers(10, 500))
def test_the_last_step_leads_to_the_end(schedule: Schedule, steps: int) -> None:
    last = schedule.peak if schedule.name == "constant" else schedule.end
    assert schedule.at(steps, steps) == pytest.approx(last, abs=1e-9)
    assert schedule.at(10 * steps, steps) == schedule.at(steps, steps)
    if schedule.warmup == 0:
        assert schedule.at(0, steps) == pytest.approx(schedule.peak)


def test_it_travels_as_plain_values() -> None:
    schedule = Schedule("trapezoid", peak=0.1, warmup=0.05, cooldown_shape="sqrt")
    assert Schedule(**json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "cosinus"}, "constant, linear, cosine, trapezoid"),
        ({"warmup": 1.5}, r"\[0, 1\]"),
        ({"warmup": 0.1, "warmup_steps": 5}, "not both"),
        ({"name": "trapezoid", "warmup": 0.5, "cooldown": 0.6}, "more than all"),
        ({"cooldown_shape": "cube"}, "linear, sqrt"),
    ],
)
def test_mistakes_are_told(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**wrong)  # type: ignore[arg-type]


def test_scaling_rules() -> None:
    assert scaled_lr(1.5e-4, 4096, "linear") == pytest.approx(2.4e-3)  # MAE, appendix A
    assert scaled_lr(0.004, 2048, "sqrt") == pytest.approx(0.004 * math.sqrt(2))  # DINOv2's ViT-L
    assert scaled_lr(0.1, 77, "none") == 0.1
    with pytest.raises(ValueError, match="none, linear, sqrt"):
        scaled_lr(0.1, 77, "cube")  # type: ignore[arg-type]
