from __future__ import annotations

import math

import torch
from lightly.loss import NTXentLoss

from training.losses.nt_xent import nt_xent


def projections() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 16, 32, dtype=torch.float64, generator=generator)
    return pair[0].requires_grad_(), pair[1].requires_grad_()


def plain(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 1 of arXiv:2002.05709, term by term."""
    z = torch.cat([first, second])
    z = z / z.norm(dim=1, keepdim=True)
    B = len(first)
    terms = []
    for i in range(2 * B):
        j = (i + B) % (2 * B)
        others = sum(torch.exp(z[i] @ z[k] / temperature) for k in range(2 * B) if k != i)
        terms.append(-torch.log(torch.exp(z[i] @ z[j] / temperature) / others))
    return torch.stack(terms).mean()


def test_value_and_gradients_are_those_of_the_formula() -> None:
    ours, theirs = projections(), projections()
    loss, expected = nt_xent(*ours, 0.2), plain(*theirs, 0.2)
    assert torch.allclose(loss, expected, atol=1e-12)
    for mine, reference in zip(torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs), strict=True):
        assert mine.abs().sum() > 0
        assert torch.allclose(mine, reference, atol=1e-12)


def test_lightly_agrees() -> None:
    first, second = projections()
    assert torch.allclose(nt_xent(first, second, 0.5), NTXentLoss(temperature=0.5)(first, second), atol=1e-10)


def test_it_lies_between_perfect_and_chance() -> None:
    z = torch.eye(8, dtype=torch.float64)
    assert nt_xent(z, z, 0.05) < 1e-6
    same = torch.ones(8, 4, dtype=torch.float64)
    assert math.isclose(float(nt_xent(same, same, 0.1)), math.log(15), rel_tol=1e-9)


def test_half_precision_is_computed_in_single() -> None:
    first, second = (z.detach().bfloat16() for z in projections())
    loss = nt_xent(first, second, 0.01)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
