from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.ema import update


def _network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 4 * 4, 5))
    network(torch.randn(4, 3, 6, 6) * (seed + 1))
    return network


def _by_loop(teacher: nn.Module, student: nn.Module, momentum: float) -> dict[str, torch.Tensor]:
    theirs = dict(student.named_parameters())
    return {
        name: (momentum * value.detach().double() + (1 - momentum) * theirs[name].detach().double()).float()
        for name, value in teacher.named_parameters()
    }


@given(momentum=st.floats(0, 1), steps=st.integers(1, 4))
def test_the_same_as_a_plain_loop_in_float64(momentum: float, steps: int) -> None:
    teacher, student = _network(0), _network(1)
    for _ in range(steps):
        expected = _by_loop(teacher, student, momentum)
        update(teacher, student, momentum)
        for name, value in teacher.named_parameters():
            assert torch.allclose(value, expected[name], rtol=1e-6, atol=1e-7)
            assert value.grad_fn is None


def test_the_ends_are_exact() -> None:
    teacher, student = _network(0), _network(1)
    before = [p.detach().clone() for p in teacher.parameters()]
    update(teacher, student, 1.0)
    assert all(torch.equal(p, b) for p, b in zip(teacher.parameters(), before, strict=True))
    update(teacher, student, 0.0)
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), student.parameters(), strict=True))


def test_buffers_stay_the_teachers_own_or_follow() -> None:
    teacher, student = _network(0), _network(1)
    own = {name: value.clone() for name, value in teacher.named_buffers()}
    update(teacher, student, 0.9)
    assert all(torch.equal(value, own[name]) for name, value in teacher.named_buffers())
    student(torch.randn(4, 3, 6, 6))
    update(teacher, student, 0.9, buffers="average")
    moved, leading = dict(teacher.named_buffers()), dict(student.named_buffers())
    assert torch.allclose(moved["1.running_mean"], 0.9 * own["1.running_mean"] + 0.1 * leading["1.running_mean"])
    assert int(moved["1.num_batches_tracked"]) == int(leading["1.num_batches_tracked"]) == 2


def test_a_half_precision_student_moves_a_float32_teacher() -> None:
    teacher, student = nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()
    nn.init.ones_(teacher.weight)
    nn.init.constant_(student.weight, 2.0)
    for _ in range(1000):
        update(teacher, student, 0.999)
    assert torch.allclose(teacher.weight, torch.full((4, 4), 2 - 0.999**1000), atol=1e-3)


def test_wrong_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="never move"):
        update(nn.Linear(2, 2).bfloat16(), nn.Linear(2, 2), 0.99)
    with pytest.raises(ValueError, match="no 'bias'"):
        update(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.99)
    with pytest.raises(ValueError, match=r"\(2, 2\) in the teacher"):
        update(nn.Linear(2, 2), nn.Linear(3, 2), 0.99)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        update(nn.Linear(2, 2), nn.Linear(2, 2), 1.01)
