from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import Block

from training.decoder_block import DecoderBlock


def test_the_last_tokens_are_what_the_whole_block_makes_of_them() -> None:
    torch.manual_seed(0)
    plain, block = Block(32, 4, qkv_bias=True).double(), DecoderBlock(32, 4, qkv_bias=True).double()
    block.load_state_dict(plain.state_dict())
    x = torch.randn(3, 9, 32, dtype=torch.float64)
    assert torch.equal(block(x), plain(x))
    found = []
    for last in (plain(x)[:, -5:], block(x, 5)):
        weights = torch.arange(1.0, 6.0, dtype=torch.float64).unsqueeze(-1)
        parameters = list((plain if not found else block).parameters())
        found.append((last, *torch.autograd.grad((last.square() * weights).sum(), parameters)))
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("last", [None, 4])
def test_masked_tokens_projected_once_a_position_are_what_the_whole_block_makes_of_them(last: int | None) -> None:
    torch.manual_seed(0)
    plain, block = Block(32, 4, qkv_bias=True).double(), DecoderBlock(32, 4, qkv_bias=True).double()
    block.load_state_dict(plain.state_dict())
    seen, masked = torch.randn(3, 2, 32, dtype=torch.float64), torch.randn(7, 32, dtype=torch.float64)
    hidden = torch.stack([torch.randperm(7)[:4] for _ in range(3)])
    found = []
    for one in (plain, block):
        inputs = [seen.clone().requires_grad_(), masked.clone().requires_grad_()]
        x = torch.cat([inputs[0], inputs[1][hidden]], dim=1)
        made = plain(x)[:, -(last or 6) :] if one is plain else block(x, last, (inputs[1], hidden))
        weights = torch.arange(1.0, 1 + made.shape[1], dtype=torch.float64).unsqueeze(-1)
        found.append((made, *torch.autograd.grad((made.square() * weights).sum(), [*one.parameters(), *inputs])))
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(got, expected, atol=1e-12)
