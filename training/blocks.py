"""The repeated blocks of a model: the unit of compiling, of recomputing activations and of sharding."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """Innermost blocks of stacks: elements of a Sequential or ModuleList that are of one class and have children.

    A vision transformer's blocks, a ResNet's bottlenecks, a ConvNeXt's blocks, a decoder's blocks.
    """
    found: list[nn.Module] = []
    for child in module.children():
        inner = repeated_blocks(child)
        elements = list(child.children())
        stack = isinstance(child, nn.Sequential | nn.ModuleList) and bool(elements)
        alike = (
            stack
            and len({type(element) for element in elements}) == 1
            and all(any(True for _ in element.children()) for element in elements)
        )
        found += inner if inner or not alike else elements
    return found


def recompute_activations(module: nn.Module) -> None:
    """Keep only the inputs of each block and run it again in the backward pass (arXiv:1604.06174); same results."""
    for block in repeated_blocks(module):
        block.forward = functools.partial(  # type: ignore[method-assign]
            checkpoint, block.forward, use_reentrant=False, context_fn=functools.partial(_contexts, block)
        )


def _contexts(block: nn.Module) -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
    return contextlib.nullcontext(), _statistics_untouched(block)


@contextlib.contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Batch norms count a batch once, though its block runs twice."""
    norms = [norm for norm in block.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    shares = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms if norm.num_batches_tracked is not None]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, share, count in zip(norms, shares, counts, strict=True):
            norm.momentum = share
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.copy_(count)


def compile_blocks(module: nn.Module) -> None:
    """Compile each block by itself: alike blocks share one compilation, and collectives stay outside."""
    for block in repeated_blocks(module):
        block.compile()
