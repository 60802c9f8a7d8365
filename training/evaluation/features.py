"""Frozen features of images: a backbone's own pooled output, and raw pixels to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from training.decoding import UndecodableError
from training.evaluation.preprocessing import Preprocessing

if TYPE_CHECKING:
    from training.backbones.interface import Backbone


def decode_squares(
    images: Sequence[bytes], orientations: Sequence[int], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decode and resize encoded images.

    Returns (N, S, S, 3) pixels and (N,) whether each could be decoded; the pixels of those that couldn't are zero.
    """
    pixels = np.zeros((len(images), preprocessing.size, preprocessing.size, 3), dtype=np.uint8)
    decoded = np.ones(len(images), dtype=bool)
    for row, (data, orientation) in enumerate(zip(images, orientations, strict=True)):
        try:
            pixels[row] = preprocessing.square(data, orientation)
        except UndecodableError:
            decoded[row] = False
    return pixels, decoded


def backbone_features(
    backbone: Backbone, pixels: NDArray[np.uint8], preprocessing: Preprocessing, *, batch: int, device: str = "cpu"
) -> NDArray[np.float32]:
    """(N, dim) pooled features of (N, S, S, 3) pixels, in float32 and evaluation mode."""
    backbone = backbone.to(device).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            images = torch.from_numpy(preprocessing.normalise(pixels[start : start + batch])).to(device)
            parts.append(backbone(images).pooled.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, backbone.dim), np.float32)


def pixel_features(
    images: Sequence[bytes], orientations: Sequence[int], background: tuple[int, int, int], side: int = 32
) -> NDArray[np.float32]:
    """(N, 3 * side * side) raw colours in 0..1 of the images squeezed to side x side; zero where undecodable."""
    plain = Preprocessing(side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", background)
    pixels, _ = decode_squares(images, orientations, plain)
    return pixels.reshape(len(images), -1).astype(np.float32) / np.float32(255)
