"""The two data sets of the clustering benchmark, made from seeds: the same arrays in every process."""

from __future__ import annotations

import resource

import numpy as np
from numpy.typing import NDArray

RINGS = ((20000, -2.2, 1.0), (200, 0.0, 1.0), (1000, 2.2, 1.0), (500, -1.2, 0.2), (8000, 1.2, 0.2))


def sphere_clusters(count: int = 50_000, width: int = 256, concepts: int = 800) -> NDArray[np.float32]:
    """(count, width) unit vectors around `concepts` directions whose frequencies follow Zipf's law."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(concepts, width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shares = 1 / np.arange(1, concepts + 1)
    rows = directions[rng.choice(concepts, count, p=shares / shares.sum())]
    rows = rows + rng.normal(size=rows.shape) * 0.7 / width**0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rings(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """29,700 points on five rings of very different density, and the ring of each (arXiv 2405.15613's toy)."""
    rng = np.random.default_rng(seed)
    points = []
    for count, x, y in RINGS:
        angle, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.7, 1.0, count)
        points.append(np.stack([radius * np.cos(angle) + x, radius * np.sin(angle) + y], axis=1))
    return np.concatenate(points).astype(np.float32), np.repeat(np.arange(5), [count for count, _, _ in RINGS])


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
