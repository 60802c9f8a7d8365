from __future__ import annotations

import torch

from training.losses.reconstruction import masked_mse, normalised_patches, patchify


def test_patches_are_in_reading_order() -> None:
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).view(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    cell = images[1, :, 2:4, 4:6]  # second row, third column
    assert torch.equal(patches[1, 5], cell.permute(1, 2, 0).flatten())


def test_norm_pix_loss_is_that_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    predicted = torch.randn(2, 4, 48, dtype=torch.float64, generator=generator)
    mask = torch.tensor([[True, False, True, False], [False, True, True, False]])
    expected = []
    for b in range(2):
        for n in range(4):
            if mask[b, n]:
                row, column = divmod(n, 2)
                patch = images[b, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].permute(1, 2, 0).flatten()
                spread = ((patch - patch.mean()) ** 2).sum() / (len(patch) - 1)
                target = (patch - patch.mean()) / (spread + 1e-6) ** 0.5
                expected.append(((predicted[b, n] - target) ** 2).mean())
    loss = masked_mse(predicted, normalised_patches(patchify(images, 4)), mask)
    assert torch.allclose(loss, torch.stack(expected).mean(), atol=1e-12)


def test_visible_patches_do_not_count() -> None:
    target = torch.zeros(1, 4, 3)
    predicted = torch.tensor([[[5.0], [1.0], [1.0], [7.0]]]).expand(1, 4, 3)
    mask = torch.tensor([[False, True, True, False]])
    assert float(masked_mse(predicted, target, mask)) == 1.0
