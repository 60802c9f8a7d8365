from __future__ import annotations

import torch
from lightly.loss import NegativeCosineSimilarity

from training.losses.normalised_mse import normalised_mse


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 16, 32, dtype=torch.float64, generator=generator)
    return first.requires_grad_(), second


def test_value_and_gradient_are_those_of_the_formula() -> None:
    (mine, target), (theirs, _) = pair(), pair()
    loss = normalised_mse(mine, target)
    distances = theirs / theirs.norm(dim=1, keepdim=True) - target / target.norm(dim=1, keepdim=True)
    expected = distances.square().sum(dim=1).mean()  # arXiv:2006.07733, equation 2
    assert torch.allclose(loss, expected, atol=1e-12)
    found, reference = torch.autograd.grad(loss, mine)[0], torch.autograd.grad(expected, theirs)[0]
    assert found.abs().sum() > 0
    assert torch.allclose(found, reference, atol=1e-12)


def test_lightly_agrees() -> None:
    predicted, target = pair()
    assert torch.allclose(normalised_mse(predicted, target), 2 + 2 * NegativeCosineSimilarity()(predicted, target))


def test_it_lies_between_the_same_and_the_opposite_direction() -> None:
    predicted, _ = pair()
    assert abs(float(normalised_mse(predicted, 3 * predicted))) < 1e-12
    assert abs(float(normalised_mse(predicted, -predicted)) - 4) < 1e-12


def test_half_precision_is_computed_in_single() -> None:
    predicted, target = (z.detach().bfloat16() for z in pair())
    loss = normalised_mse(predicted, target)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, normalised_mse(predicted.float(), target.float()))
