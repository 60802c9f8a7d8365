"""The untrained contestant: which gains are set, which stay, and what that changes."""

from __future__ import annotations

import timm
import torch
from torch import nn

from training.backbones.building import timm_backbone
from training.evaluation.untrained import open_branches_of


def test_zero_gains_of_a_resnet_become_one_and_its_features_follow_the_picture():
    torch.manual_seed(0)
    backbone = timm_backbone(timm.create_model("resnet10t", num_classes=0)).eval()
    before = {name: value.clone() for name, value in backbone.named_parameters()}
    zero = {name for name, value in before.items() if not value.any() and name.endswith(".weight")}
    assert len(zero) == 4
    images = torch.randn(16, 3, 32, 32)
    with torch.no_grad():
        closed = backbone(images).pooled
        assert open_branches_of(backbone) == len(zero)
        opened = backbone(images).pooled
    for name, value in backbone.named_parameters():
        assert torch.equal(value, torch.ones_like(value) if name in zero else before[name]), name
    assert not torch.allclose(closed, opened, atol=1e-3)
    assert open_branches_of(backbone) == 0


def test_layer_scale_gates_and_matrices_stay():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.last = nn.LayerNorm(4), nn.GroupNorm(1, 4)
            self.gamma, self.gain = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(()))
            self.fc = nn.Linear(4, 4)
            nn.init.zeros_(self.fc.weight)
            nn.init.zeros_(self.last.weight)

    block = Block()
    assert open_branches_of(block) == 1
    assert block.last.weight.tolist() == [1, 1, 1, 1]
    assert not block.gamma.any() and not block.gain.any() and not block.fc.weight.any() and not block.norm.bias.any()
    assert open_branches_of(timm.create_model("vit_tiny_patch16_224", depth=1, init_values=1e-5, num_classes=0)) == 0
