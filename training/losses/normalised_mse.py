"""Mean squared error between directions, the regression loss of BYOL."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def normalised_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, 2 - 2 cos, averaged over the batch (arXiv:2006.07733, equation 2).

    predicted, target: (B, D), need not be normalised; between 0 and 4. Computed in float32 at least.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        if predicted.dtype in (torch.float16, torch.bfloat16):
            predicted, target = predicted.float(), target.float()
        return 2 - 2 * F.cosine_similarity(predicted, target.to(predicted.dtype), dim=1).mean()
