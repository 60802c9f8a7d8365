"""The untrained backbone as a contestant: one whose every layer sees the picture."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def open_branches_of(backbone: nn.Module) -> int:
    """Set the gains of norms that are all zero to one, in place, and return of how many norms.

    ResNets begin with a zero gain in the last norm of each residual branch (Goyal et al., 2017, arXiv:1706.02677,
    section 5.1). That helps training, and leaves an untrained network of which shortcuts alone see the picture: a
    figure above it says little of what was learned. Layer-scale and gates are other parameters, and stay.
    """
    opened = 0
    for module in backbone.modules():
        gain = module._parameters.get("weight")
        if gain is not None and gain.ndim == 1 and gain.numel() > 0 and not gain.any():
            gain.fill_(1)
            opened += 1
    return opened
