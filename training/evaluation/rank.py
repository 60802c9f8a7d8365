"""How many directions the features use: label-free measures of collapse."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def singular_values(features: FloatArray) -> NDArray[np.float64]:
    """The min(N, D) singular values of (N, D) features, largest first, from the smaller Gram matrix in float64.

    Values below about 1e-8 of the largest are not resolved, and come out as such noise.
    """
    x = torch.as_tensor(np.asarray(features, dtype=np.float64))
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt().numpy()


def rankme(features: FloatArray, eps: float = 1e-7) -> float:
    """RankMe (Garrido et al., 2023, arXiv:2210.02885): exp of the entropy of p_k = s_k / sum(s) + eps.

    features: (N, D), not centred. At most about min(N, D); compare it only between runs of one method and one N.
    """
    values = singular_values(features)
    total = values.sum()
    if total == 0:
        return 1.0
    p = values / total + eps
    return float(np.exp(-(p * np.log(p)).sum()))


def effective_rank(features: FloatArray) -> float:
    """Effective rank (Roy and Vetterli, 2007) of the centred covariance: exp of the entropy of its eigenvalue shares.

    features: (N, D). 1 where all rows are equal.
    """
    x = np.asarray(features, dtype=np.float64)
    power = singular_values(x - x.mean(axis=0)) ** 2
    total = power.sum()
    if total <= 1e-20 * max(1.0, float((x**2).sum())):
        return 1.0
    p = power / total
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def unit_std(features: FloatArray) -> float:
    """Mean over dimensions of the standard deviation of the L2-normalised rows, times sqrt(D).

    Near 1 for features spread over the sphere, 0 for collapsed ones (Chen and He, 2021, arXiv:2011.10566).
    """
    x = np.asarray(features, dtype=np.float64)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return float(unit.std(axis=0).mean() * np.sqrt(x.shape[1]))
