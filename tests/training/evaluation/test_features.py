"""Features of layers, from one pass."""

from __future__ import annotations

import numpy as np
import torch

from tests.training.evaluation.small_vit import PREPROCESSING, canvases, small_vit
from training.evaluation.features import backbone_features, layer_features, layer_numbers

PIXELS = np.stack([canvas.pixels.transpose(1, 2, 0)[:32, :32] for canvas in canvases(5)])


def test_layers_are_spread_over_the_depth():
    vit = small_vit("vit_tiny_patch16_224", patch_size=16, embed_dim=24, depth=12, num_heads=3, img_size=32)
    assert layer_numbers(vit, 4) == [2, 5, 8, 11]
    assert layer_numbers(vit, 1) == [11]
    assert layer_numbers(small_vit(), 4) == [0, 1, 2]
    assert layer_numbers(small_vit("resnet18", channels=[8, 8, 16, 16]), 5) == [0, 1, 2, 3, 4]


def test_layers_of_a_transformer_are_its_hidden_states():
    vit = small_vit()
    found = layer_features(vit, PIXELS, PREPROCESSING, layers=[0, 2], batch=2, patches=True)
    images = torch.from_numpy(PREPROCESSING.normalise(PIXELS))
    with torch.inference_mode():
        tokens = vit.tokens(images, layers=[0])
    np.testing.assert_allclose(found["block_0/class"], tokens.hidden[0][:, 0], atol=2e-3)
    np.testing.assert_allclose(found["block_0/average"], tokens.hidden[0][:, 1:].mean(dim=1), atol=2e-3)
    np.testing.assert_allclose(found["patches"], tokens.patches, atol=4e-3)
    pooled = backbone_features(vit, PIXELS, PREPROCESSING, batch=2)
    np.testing.assert_array_equal(found["pooled"], pooled)
    assert set(found) == {"pooled", "patches", *(f"block_{n}/{k}" for n in (0, 2) for k in ("class", "average"))}


def test_a_convolutional_backbones_stages_are_averaged_over_their_cells():
    resnet = small_vit("resnet18", channels=[8, 8, 16, 16])
    found = layer_features(resnet, PIXELS, PREPROCESSING, layers=[2, 4], batch=8)
    assert set(found) == {"pooled", "block_2/average", "block_4/average"}
    np.testing.assert_allclose(found["block_4/average"], found["pooled"], atol=5e-3)
    assert found["block_2/average"].dtype == np.float16
