"""View recipes: how many crops an objective sees of an image, and how they are distorted. Plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ViewRecipe:
    """Distributions that crops are drawn from.

    crops: views of an image. scale_min, scale_max: share of the image's area that a crop covers; its aspect ratio
    is log-uniform in [3/4, 4/3]. flip: probability of a horizontal flip. jitter: probability of the colour jitter,
    whose factors are uniform in 1 +- brightness, contrast, saturation, and whose hue turns by up to +- hue of a
    full circle. grey: probability of losing all colour. blur: probability of a Gaussian blur with a sigma uniform in
    [blur_sigma_min, blur_sigma_max] pixels of the crop.
    """

    crops: int
    scale_min: float
    scale_max: float
    flip: float
    jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    blur: float
    blur_sigma_min: float = 0.1
    blur_sigma_max: float = 2.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the catalogue and for keys."""
        return asdict(self)


def two_crops(strength: float = 0.5, blur: float = 0.0) -> ViewRecipe:
    """SimCLR's two crops (Chen et al., 2020, arXiv:2002.05709, appendix A).

    strength: of the colour distortion. The paper takes 1.0 with blur at 0.5 on ImageNet, 0.5 without blur on CIFAR.
    """
    return ViewRecipe(
        crops=2,
        scale_min=0.08,
        scale_max=1.0,
        flip=0.5,
        jitter=0.8,
        brightness=0.8 * strength,
        contrast=0.8 * strength,
        saturation=0.8 * strength,
        hue=0.2 * strength,
        grey=0.2,
        blur=blur,
    )


def one_crop() -> ViewRecipe:
    """MAE's single crop without colour distortion (He et al., 2021, arXiv:2111.06377, appendix A.1)."""
    return ViewRecipe(
        crops=1,
        scale_min=0.2,
        scale_max=1.0,
        flip=0.5,
        jitter=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        grey=0.0,
        blur=0.0,
    )
