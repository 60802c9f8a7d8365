"""View recipes: how many crops an objective sees of an image, and how they are distorted. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LOCAL_SHARE = 3 / 7
"""Side of a local crop in shares of a global one where nothing else is said: 96 of 224 pixels (arXiv:2006.09882)."""


@dataclass(frozen=True)
class ViewRecipe:
    """Distributions that crops are drawn from.

    crops: views of an image. scale_min, scale_max: share of the image's area that a crop covers; its aspect ratio
    is log-uniform in [3/4, 4/3]. flip: probability of a horizontal flip. jitter: probability of the colour jitter,
    whose factors are uniform in 1 +- brightness, contrast, saturation, and whose hue turns by up to +- hue of a
    full circle. grey: probability of losing all colour. blur: probability of a Gaussian blur with a sigma uniform in
    [blur_sigma_min, blur_sigma_max] pixels of the crop. solarise: probability of inverting what is brighter than
    half. blur and solarise may be lists with a probability for each view; the last one stands for all further views.
    local_crops: further, smaller views of local_size pixels (0: see `local_side`) that cover local_scale_min to
    local_scale_max of the area, numbered after the others.
    shared_colour: all views of an image get the colours, blur and solarisation of its first one. resize: without it a
    view is a part of the decoded picture, pixel by pixel, as large as the crop; scales mean nothing then.
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
    blur: float | Sequence[float]
    blur_sigma_min: float = 0.1
    blur_sigma_max: float = 2.0
    solarise: float | Sequence[float] = 0.0
    local_crops: int = 0
    local_size: int = 0
    local_scale_min: float = 0.05
    local_scale_max: float = 0.4
    shared_colour: bool = False
    resize: bool = True

    @property
    def views(self) -> int:
        """Views of an image, of all sizes."""
        return self.crops + self.local_crops

    def scale(self, view: int) -> tuple[float, float]:
        """Least and largest share of the image's area that this view covers."""
        if view < self.crops:
            return self.scale_min, self.scale_max
        return self.local_scale_min, self.local_scale_max

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the catalogue and for keys."""
        return asdict(self)


_NO_DISTORTION = {"flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "solarise": 0.0}

_SMALL_TRAINING = {"steps": 400, "batch": 128, "lr": 1e-3, "warmup": 0.1, "clip": 3.0}
SMALL_PAIRS = {
    "crops": 2,
    "local_crops": 0,
    "scale_min": 0.2,
    "blur": 0.0,
    "solarise": 0.0,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
}
"""Views of small pictures: SimCLR's for CIFAR (arXiv:2002.05709, appendix B.9), and no crops of a few pixels."""

NAMED: dict[str, dict[str, Any]] = {
    "paper": {},
    "two_crops": {"crops": 2, "local_crops": 0},
    "multicrop": {"crops": 2, "local_crops": 6, "scale_min": 0.32, "local_scale_max": 0.32},
    "shared_colour": {"shared_colour": True},
    "crop_resize": _NO_DISTORTION,
    "crop_only": {**_NO_DISTORTION, "resize": False},
}
"""Views by name: what differs from those of the objective's paper. multicrop is SwAV's (arXiv:2006.09882) with DINO's
scales; the last three are the policies of "You Don't Need Domain-Specific Data Augmentations When Scaling
Self-Supervised Learning" (arXiv:2406.09294, section 3)."""


@dataclass(frozen=True)
class ViewNeeds:
    """Which views an objective can take.

    least, most: number of full-size crops; most 0 for any number. local_crops: whether smaller ones may follow.
    why: the reason, as the end of a sentence.
    """

    least: int
    most: int
    local_crops: bool
    why: str

    def refusal(self, objective: str, crops: int, local_crops: int) -> str | None:
        """Why an objective cannot take so many crops, as a sentence that says what to do, or None where it can."""
        fits = self.least <= crops and (not self.most or crops <= self.most)
        if fits and (self.local_crops or not local_crops):
            return None
        several = self.most != self.least
        number = (
            f"{self.least} or more" if not self.most else f"{self.least} to {self.most}" if several else self.least
        )
        taken = f"{number} crops" if number != 1 else "1 crop"
        return (
            f"objective '{objective}' takes {taken} of an image, {'with or' if self.local_crops else 'and'} "
            f"{'without' if self.local_crops else 'no'} local crops, because {self.why}; these views have {crops} and "
            f"{local_crops} local ones: leave views as the paper has them, or set views.crops and views.local_crops"
        )


@dataclass(frozen=True)
class SmallRecipe:
    """What changes against an objective's paper where images, batches and time are few: some thousand images of some
    tens of pixels, batches of 64 to 256, minutes of a CPU.

    objective: its parameters. training: parameters of the pretrain stage. views: values of the view recipe.
    """

    objective: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)


ANY_VIEWS = ViewNeeds(1, 0, True, "it learns from views")
SEVERAL_VIEWS = ViewNeeds(2, 0, True, "it compares views of an image with each other")
ONE_VIEW = ViewNeeds(1, 1, False, "it learns from each crop by itself, and more of them only cost time")


def for_view(probability: float | Sequence[float], view: int) -> float:
    """The probability that holds for a view, counted from 0."""
    if isinstance(probability, Sequence):
        return probability[min(view, len(probability) - 1)]
    return probability


def local_side(image_size: int, patch: int) -> int:
    """Side of a local crop: `LOCAL_SHARE` of a global crop's, to the nearest multiple of the patch, at least one."""
    return max(1, round(LOCAL_SHARE * image_size / patch)) * patch


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


def one_crop(scale: float = 0.2, flip: float = 0.5) -> ViewRecipe:
    """MAE's single crop without colour distortion (He et al., 2021, arXiv:2111.06377, appendix A.1).

    scale: least share of the image that it covers.
    """
    return ViewRecipe(
        crops=1,
        scale_min=scale,
        scale_max=1.0,
        flip=flip,
        jitter=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        grey=0.0,
        blur=0.0,
    )


def multi_crop(local_crops: int = 8, global_scale: float = 0.32, local_scale: float = 0.32) -> ViewRecipe:
    """DINO's two global and many local crops (Caron et al., 2021, arXiv:2104.14294, appendix).

    The distortions are BYOL's (arXiv:2006.07733, table 6): the first view is always blurred, the second rarely but
    sometimes solarised; every other local crop is blurred. global_scale: least share of the image that a global crop
    covers; local_scale: most that a local crop covers. The paper takes 0.25 to 0.4 for both.
    """
    return ViewRecipe(
        crops=2,
        scale_min=global_scale,
        scale_max=1.0,
        flip=0.5,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grey=0.2,
        blur=(1.0, 0.1, 0.5),
        solarise=(0.0, 0.2, 0.0),
        local_crops=local_crops,
        local_scale_max=local_scale,
    )


def small_recipe(
    objective: dict[str, Any] | None = None, views: dict[str, Any] | None = None, **training: Any
) -> SmallRecipe:
    """A small recipe: an objective's own parameters and views, and its training above what all of them share."""
    return SmallRecipe(objective or {}, {**_SMALL_TRAINING, **training}, views or {})
