"""Maps of local features, and the same point found again in another crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.evaluation.small_vit import PREPROCESSING, canvases, small_vit
from training.backbones.interface import Backbone, Tokens
from training.evaluation.dense import crop_correspondence, dense_features

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_transformers_patch_tokens_and_their_lengths_before_the_last_norm():
    vit = small_vit()
    patches, norms = dense_features(vit, IMAGES)
    found = vit.tokens(IMAGES, layers=[-1])
    assert torch.equal(patches.flatten(1, 2), found.patches)
    torch.testing.assert_close(norms.flatten(1), found.hidden[-1][:, 1:].norm(dim=2))
    assert patches.shape == (2, 4, 4, 24)


def test_a_convolutional_backbone_shows_its_last_fine_map():
    # Of 64 pixels the stages have 32, 16, 8, 4 and 2 cells a side.
    resnet = small_vit("resnet18", channels=[8, 8, 16, 24])
    images = torch.nn.functional.interpolate(IMAGES, size=64)
    patches, norms = dense_features(resnet, images)
    assert patches.shape == (2, 4, 4, 16)
    torch.testing.assert_close(norms, patches.norm(dim=3))
    assert dense_features(resnet, images[:, :, :4, :4]) is None


class _Places(Backbone):
    """Local features that are the mean colours of their cells."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Identity()
        self.dim = self.token_dim = 3
        self.patch = 2

    def tokens(self, images, *_, **__):
        cells = nn.functional.avg_pool2d(images, 2).permute(0, 2, 3, 1)
        return Tokens(images.mean(dim=(2, 3)), cells.flatten(1, 2), (cells.shape[1], cells.shape[2]))


def test_colours_find_their_place_again_and_noise_does_not():
    keys = [f"key-{n}" for n in range(6)]
    found = crop_correspondence(_Places(), canvases(6), keys, PREPROCESSING, batch=4)
    again = crop_correspondence(_Places(), canvases(6), keys, PREPROCESSING, batch=64)
    assert found.pck == pytest.approx(again.pck)
    by_chance = np.pi * 0.1**2
    assert found.pck[0.1] > 3 * by_chance
    assert found.pck[0.05] <= found.pck[0.1] <= found.pck[0.2]
    low, high = found.intervals[0.1]
    assert low <= found.pck[0.1] <= high


def test_without_a_map_there_is_nothing_to_find():
    vit = small_vit("vit_tiny_patch16_224", patch_size=16, embed_dim=24, depth=1, num_heads=3, img_size=32)
    assert dense_features(vit, IMAGES) is None
    assert crop_correspondence(vit, canvases(2), ["a", "b"], PREPROCESSING, batch=4) is None
