"""NT-Xent, the normalised temperature-scaled cross entropy of SimCLR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.process_group import gather_over_ranks, rank


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over this rank's 2B anchors; partners and negatives come from all ranks (arXiv:2002.05709, equation 1).

    first, second: (B, D) projections of two views of the same images; need not be normalised.
    """
    with torch.autocast(first.device.type, enabled=False):
        return _nt_xent(_at_least_single(first), _at_least_single(second), temperature)


def _at_least_single(z: Tensor) -> Tensor:
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def _nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    B = len(first)
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    all_first, all_second = gather_over_ranks(first), gather_over_ranks(second)
    everything = torch.cat([all_first, all_second])
    logits = torch.cat([first, second]) @ everything.T / temperature
    mine = torch.arange(B, device=first.device) + rank() * B
    selves = torch.cat([mine, mine + len(all_first)])
    partners = torch.cat([mine + len(all_first), mine])
    logits = logits.scatter(1, selves.unsqueeze(1), float("-inf"))
    return F.cross_entropy(logits, partners)
