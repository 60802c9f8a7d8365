"""Convolutions without the taps of their kernels that see nothing but padding.

A 3 x 3 kernel on a map of one cell, as in the last stage of a ResNet on crops of 32 pixels, multiplies its centre
alone. Libraries spend time on all nine taps, in the gradient of the weights above all.
"""

from __future__ import annotations

from types import MethodType

import torch.nn.functional as F
from torch import Tensor, nn


def skip_padding_taps(model: nn.Module) -> None:
    """Let each plain convolution of `model` cut its kernel to what reaches into its input; results are the same.

    The gradient of the taps that are cut is 0, as it would be otherwise.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and isinstance(module.padding, tuple):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    sizes = x.shape[-2:]
    if all(size >= kernel for size, kernel in zip(sizes, conv.kernel_size, strict=True)):
        return nn.Conv2d.forward(conv, x)
    down, across = (
        live_taps(sizes[axis], conv.kernel_size[axis], conv.stride[axis], int(conv.padding[axis]), conv.dilation[axis])
        for axis in (0, 1)
    )
    weight = conv.weight[:, :, down[0] : down[1], across[0] : across[1]]
    return F.conv2d(x, weight, conv.bias, conv.stride, (down[2], across[2]), conv.dilation, conv.groups)


def live_taps(size: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, int, int]:
    """Along one axis: the first tap that sees the input anywhere, one past the last, and the padding that is left.

    All taps and the whole padding where what is left would not be the same on both sides.
    """
    whole = 0, kernel, padding
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    starts = [output * stride - padding for output in range(outputs)]
    live = [tap for tap in range(kernel) if any(0 <= start + tap * dilation < size for start in starts)]
    if not live:
        return whole
    first, stop = live[0], live[-1] + 1
    before = padding - first * dilation
    after = starts[-1] + (stop - 1) * dilation - (size - 1)
    return (first, stop, before) if before == max(0, after) >= 0 else whole
