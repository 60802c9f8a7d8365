from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.backbones.families import FAMILIES, Family, pictures
from tests.training.objectives.small_models import small_plan
from training.backbones.memory import activation_bytes, guard_memory
from training.blocks import recompute_activations
from training.plan import PretrainingPlan

WIDE = {"patch_size": 8, "depth": 4, "embed_dim": 96, "num_heads": 2}
CPU = torch.device("cpu")


def measured(backbone: Any, images: torch.Tensor) -> int:
    """Bytes that autograd keeps between the forward and the backward pass, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tokens = backbone(images)
    assert tokens.pooled.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_the_estimate_is_what_autograd_keeps(name: str, recompute: bool) -> None:
    backbone: Any = Family(name, WIDE, size=64).build().train()
    guess = activation_bytes(backbone, [(16, 64)], recompute=recompute)
    if recompute:
        one_block = activation_bytes(Family(name, {**WIDE, "depth": 1}, size=64).build(), [(16, 64)])  # type: ignore[arg-type]
        recompute_activations(backbone)
        assert 0 < guess - one_block < guess
        assert measured(backbone, pictures(16, 64)) < guess
    else:
        assert guess == pytest.approx(measured(backbone, pictures(16, 64)), rel=0.2)


def test_a_step_that_cannot_fit_is_told_before_it_starts(tmp_path: Path) -> None:
    backbone = FAMILIES["pixels"].build()

    def of_batch(batch: int) -> PretrainingPlan:
        return small_plan("mae", tmp_path, tmp_path / "work", image_size=6, batch=batch)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard_memory(backbone, of_batch(16), 1, CPU)
        guard_memory(FAMILIES["resnet"].build(), of_batch(10**12), 1, CPU)
    has = 4 << 30
    enough = 16 * has // activation_bytes(backbone, [(16, 6)])  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.backbones.memory.psutil.virtual_memory", lambda: type("Memory", (), {"total": has}))
        with pytest.warns(UserWarning, match=r"take about \d+ GiB .*36 patches of 1 px.*and there are 4"):
            guard_memory(backbone, of_batch(2 * enough), 1, CPU)
        with pytest.raises(ValueError, match="a larger backbone_options"):
            guard_memory(
                backbone, small_plan("mae", tmp_path, tmp_path / "y", image_size=6, batch=11 * enough), 1, CPU
            )
