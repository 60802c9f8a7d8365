"""Packed multi-crop against one call for each crop size: CPU-seconds of forward and backward, interleaved.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.packed_crops [--images 8] [--rounds 8]

A ViT-S with patches of 8 px sees 2 crops of 64 px and 8 of 32 px of each image: the 2 x 224 + 8 x 96 of DINO at a size
for CPUs. Beside the packing in use (attention once for each crop size) stand the two other ways to keep crops apart:
one call under a block-diagonal mask, and one on padded crops (attention on nested tensors asks for CUDA). Also counts
what dropping three quarters of the patches saves.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.peers import keep_result
from training.backbones import packing
from training.backbones.building import build_backbone
from training.backbones.packing import Packing

MODEL = {"name": "vit_small_patch16_224", "kwargs": {"img_size": 64, "patch_size": 8}}
COMMAND = "OMP_NUM_THREADS=1 python -m tests.benchmarks.packed_crops"


def masked_attention(q: Tensor, k: Tensor, v: Tensor, packed: Packing, dropout: float) -> Tensor:
    """One call under a T x T block-diagonal mask."""
    lengths = [length for crops, length in packed.sizes for _ in range(crops)]
    crop = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (crop.unsqueeze(0) == crop.unsqueeze(1)).unsqueeze(0)
    heads = (t.transpose(0, 1).unsqueeze(0) for t in (q, k, v))
    return F.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout)[0].transpose(0, 1).flatten(1)


def padded_attention(q: Tensor, k: Tensor, v: Tensor, packed: Packing, dropout: float) -> Tensor:
    """One call on crops padded to the longest, with the padding masked out."""
    longest = max(length for _, length in packed.sizes)

    def pad(t: Tensor) -> Tensor:
        return torch.cat([F.pad(x, (0, 0, 0, 0, 0, longest - x.shape[1])) for x in packed.split(t)]).transpose(1, 2)

    there = torch.cat([(torch.arange(longest) < length).expand(crops, -1) for crops, length in packed.sizes])
    out = F.scaled_dot_product_attention(pad(q), pad(k), pad(v), attn_mask=there[:, None, None], dropout_p=dropout)
    parts = out.transpose(1, 2).split([crops for crops, _ in packed.sizes])
    return torch.cat(
        [part[:, :length].flatten(2).flatten(0, 1) for part, (_, length) in zip(parts, packed.sizes, strict=True)]
    )


def cpu_seconds(function: Callable[[], Tensor], model: torch.nn.Module) -> float:
    model.zero_grad(set_to_none=True)
    start = time.process_time()
    function().backward()
    return time.process_time() - start


def flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    backbone = build_backbone({"backbone": MODEL, "seed": 0}).train()
    generator = torch.Generator().manual_seed(0)
    groups = [
        torch.randn(crops * arguments.images, 3, side, side, generator=generator) for crops, side in ((2, 64), (8, 32))
    ]

    def plain() -> Tensor:
        return sum((backbone.tokens(images).pooled.square().sum() for images in groups), torch.zeros(()))

    def packed() -> Tensor:
        return sum((tokens.pooled.square().sum() for tokens in backbone.tokens_of(groups)), torch.zeros(()))

    def packed_with(attention: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            used, packing.attention_by_size = packing.attention_by_size, attention
            try:
                return packed()
            finally:
                packing.attention_by_size = used

        return run

    ways = {
        "plain": plain,
        "packed": packed,
        "masked": packed_with(masked_attention),
        "padded": packed_with(padded_attention),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.rounds + 1):
        for name, function in ways.items():
            seconds = cpu_seconds(function, backbone)
            if turn:
                times[name].append(seconds)
    ratios = {
        name: round(statistics.median(mine / base for mine, base in zip(times[name], times["plain"], strict=True)), 3)
        for name in ways
    }
    quarter = torch.arange(16).expand(len(groups[0]), -1)
    figures = {
        "model": "ViT-S/8",
        "crops": f"{arguments.images} x (2 x 64 px + 8 x 32 px)",
        "threads": torch.get_num_threads(),
        "cpu_seconds_median": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "ratio_to_plain": ratios,
        "rounds": arguments.rounds,
        "flops_of_a_quarter_of_the_patches": round(
            flops(lambda: backbone.tokens(groups[0], keep=quarter)) / flops(lambda: backbone.tokens(groups[0])), 3
        ),
    }
    print(figures)
    print(keep_result("packed_crops", f"{COMMAND} --images {arguments.images} --rounds {arguments.rounds}", figures))


if __name__ == "__main__":
    assert "OMP_NUM_THREADS" in os.environ, f"run as: {COMMAND}"
    main()
