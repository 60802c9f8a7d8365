"""Blurs: out of focus, through frosted glass, of a moving camera, of zooming."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

Picture = NDArray[np.float64]


def scale_of(x: NDArray[np.floating]) -> float:
    """How many pixels stand for one of the benchmark's 224."""
    return min(x.shape[:2]) / 224


def defocus_blur(x: Picture, level: int, generator: np.random.Generator) -> Picture:  # noqa: ARG001
    """A disk-shaped point spread with softened rim."""
    radius, soft = np.array(((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[level]) * scale_of(x)
    reach = int(np.ceil(radius + 3 * soft)) + 1
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # A pixel on the rim counts with about the share of it that the disk covers.
    disk = np.clip(radius + 0.5 - np.hypot(down, across), 0, 1)
    return _convolved(x, gaussian_filter(disk, soft, mode="constant"))


def glass_blur(x: Picture, level: int, generator: np.random.Generator) -> Picture:
    """Blur, shuffle each pixel with near ones a few times, blur again."""
    sigma, reach, times = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[level]
    scale = scale_of(x)
    found = gaussian_filter(x, (sigma * scale, sigma * scale, 0))
    down, across = np.mgrid[: x.shape[0], : x.shape[1]]
    for _ in range(times):
        moved = scale * generator.integers(-reach, reach + 1, (2, *x.shape[:2]))
        places = [down + moved[0], across + moved[1]]
        channels = [map_coordinates(found[..., c], places, order=1, mode="nearest") for c in range(3)]
        found = np.stack(channels, axis=2)
    return gaussian_filter(found, (sigma * scale, sigma * scale, 0))


def motion_blur(x: Picture, level: int, generator: np.random.Generator) -> Picture:
    """A straight movement at an angle of -45 to 45 degrees."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[level]
    return smeared(x, radius * scale_of(x), sigma * scale_of(x), float(generator.uniform(-45, 45)))


def zoom_blur(x: Picture, level: int, generator: np.random.Generator) -> Picture:  # noqa: ARG001
    """Mean of the picture and of itself zoomed in step by step."""
    most, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[level]
    factors = np.arange(1, most, step)
    return (x + sum(magnified(x, factor) for factor in factors)) / (1 + len(factors))


def magnified(x: Picture, factor: float) -> Picture:
    """The middle of the picture (H, W) or (H, W, 3), enlarged bilinearly by `factor` to the whole size."""
    height, width = x.shape[:2]
    rows, columns = int(np.ceil(height / factor)), int(np.ceil(width / factor))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = x[top : top + rows, left : left + columns]
    grown = zoom(part, (factor, factor, *([1] * (x.ndim - 2))), order=1, mode="nearest", grid_mode=True)
    grown = np.pad(
        grown,
        [(0, max(0, height - grown.shape[0])), (0, max(0, width - grown.shape[1])), *([(0, 0)] * (x.ndim - 2))],
        mode="edge",
    )
    down, across = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return grown[down : down + height, across : across + width]


def smeared(x: Picture, radius: float, sigma: float, degrees: float) -> Picture:
    """Smear (H, W) or (H, W, 3) along a line with weights that fall off as a half Gaussian."""
    reach = max(1, round(radius))
    steps = np.arange(2 * reach + 1)
    weights = np.exp(-0.5 * (steps / max(sigma, 1e-6)) ** 2)
    kernel = np.zeros((4 * reach + 3, 4 * reach + 3))
    angle = np.deg2rad(degrees)
    down, across = 2 * reach + 1 + steps * np.sin(angle), 2 * reach + 1 + steps * np.cos(angle)
    row, column = np.floor(down).astype(int), np.floor(across).astype(int)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - i - (down - row)) * np.abs(1 - j - (across - column))
        np.add.at(kernel, (row + i, column + j), weights * share)
    return _convolved(x, kernel)


def _convolved(x: Picture, kernel: NDArray[np.float64]) -> Picture:
    """Convolution with the kernel made to sum to 1, and the picture mirrored at its borders."""
    from scipy.signal import fftconvolve  # a slow import, which those who look up names alone are spared

    reach = kernel.shape[0] // 2
    extra = [(0, 0)] * (x.ndim - 2)
    padded = np.pad(x, [(reach, reach), (reach, reach), *extra], mode="symmetric")
    whole = (kernel / kernel.sum()).reshape(*kernel.shape, *([1] * (x.ndim - 2)))
    return fftconvolve(padded, whole, mode="valid", axes=(0, 1))
