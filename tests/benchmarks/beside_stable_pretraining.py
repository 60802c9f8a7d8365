"""stable-pretraining's own method classes and transforms, with the values of our recipes; for its environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from stable_pretraining import methods
from stable_pretraining.data import static, transforms
from torch import Tensor

from tests.benchmarks.beside_method import Method, Spec

NEEDS_SIZES = True  # their classes try the backbone on 224 px


class _Theirs(Method):
    """A method class of theirs, which holds the backbone itself."""

    made: Callable[[Any, Spec], Any]

    def build(self) -> None:
        self.method = type(self).made(self.backbone, self.spec)

    def forward(self, views: list[Tensor]) -> Tensor:
        return self.method(*views).loss


def _widths(spec: Spec) -> tuple[int, ...]:
    head = spec["projection"]
    return (*[head["hidden"]] * (head["layers"] - 1), head["out"])


class SimCLR(_Theirs):
    @staticmethod
    def made(backbone: Any, spec: Spec) -> Any:
        return methods.SimCLR(backbone, _widths(spec), spec["temperature"])


class BarlowTwins(_Theirs):
    @staticmethod
    def made(backbone: Any, spec: Spec) -> Any:
        return methods.BarlowTwins(backbone, _widths(spec), spec["off_diagonal"])


class VICReg(_Theirs):
    @staticmethod
    def made(backbone: Any, spec: Spec) -> Any:
        weights = (spec[name] for name in ("invariance", "variance", "covariance"))
        return methods.VICReg(backbone, _widths(spec), *weights)


class SwAV(_Theirs):
    @staticmethod
    def made(backbone: Any, spec: Spec) -> Any:
        settings = (spec[name] for name in ("prototypes", "temperature", "iterations", "epsilon"))
        return methods.SwAV(backbone, _widths(spec), *settings)


class MAE(_Theirs):
    @staticmethod
    def made(backbone: Any, spec: Spec) -> Any:
        decoder = spec["decoder"]
        sizes = (decoder[name] for name in ("dim", "depth", "heads"))
        return methods.MAE(backbone, *sizes, mask_ratio=spec["mask_ratio"], norm_pix_loss=spec["normalise_target"])


METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "swav": SwAV,
    "mae": MAE,
}


def transform(objective: str, views: Spec, size: int) -> Callable[[Image.Image], list[Tensor]]:
    """Their transforms, with the distributions of our view recipe."""
    each = [_view(views, size, view) for view in range(views["crops"])]
    return lambda image: [torch.as_tensor(view({"image": image})["image"]) for view in each]


def _view(views: Spec, size: int, view: int) -> Any:
    blur, solarise = (
        value if isinstance(value, int | float) else value[view] for value in (views["blur"], views["solarise"])
    )
    jitter = (views[name] for name in ("brightness", "contrast", "saturation", "hue"))
    return transforms.Compose(
        transforms.RGB(),
        transforms.RandomResizedCrop((size, size), scale=(views["scale_min"], views["scale_max"])),
        transforms.RandomHorizontalFlip(p=views["flip"]),
        transforms.ColorJitter(*jitter, p=views["jitter"]),
        transforms.RandomGrayscale(p=views["grey"]),
        *([transforms.PILGaussianBlur(p=blur)] if blur else []),
        *([transforms.RandomSolarize(threshold=128, p=solarise)] if solarise else []),
        transforms.ToImage(**static.ImageNet),
    )
