"""Parameter groups: named, in an order that depends on the module alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.optim.optimizer import Optimizer

_BLOCK = re.compile(r"(?:^|\.)(?:resblocks|blocks|layers?|stages?)\.(\d+)\.")
_STEM = re.compile(r"(?:^|[._])(?:patch_embed|conv1|stem)(?:[._]|$)")
_SPARED = re.compile(r"(?:_token|_embed|_embedding|gamma)$")


def layer_ids(module: nn.Module) -> dict[str, int]:
    """The depth of each parameter of the backbones inside `module`: 0 for patch and position embeddings, then 1, ...

    timm's models say so themselves; elsewhere numbers of blocks in the names do. Parameters of heads are left out.
    """
    found: dict[str, int] = {}
    for prefix, child in module.named_modules():
        matcher = getattr(child, "group_matcher", None)
        dot = f"{prefix}." if prefix else ""
        if matcher is not None and not any(name.startswith(dot) for name in found):
            depths = group_parameters(child, matcher(coarse=False), reverse=True)
            found.update({dot + name: int(depth) for name, depth in depths.items()})
    if found:
        return found
    numbers = {name: _BLOCK.search(name) for name, _ in module.named_parameters() if name.startswith("backbone.")}
    depth = max((int(match[1]) + 1 for match in numbers.values() if match), default=0)
    first = True
    for name, match in numbers.items():
        first = first and match is None
        found[name] = int(match[1]) + 1 if match else 0 if first else depth
    return found


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    *,
    layer_decay: float = 1.0,
    patch_embed_lr: float = 1.0,
    frozen: Mapping[str, int] | None = None,
    muon: bool = False,
) -> list[dict[str, Any]]:
    """Trainable parameters in named groups: by depth, by weight decay, and by what else `set_rates` treats apart.

    Biases, norms, layer scales, tokens, position embeddings and what the models themselves list in
    `no_weight_decay()` have none.
    layer_decay: a layer's learning rate is this times that of the one above it; heads, above the last, have the full
    rate (arXiv:2106.08254). patch_embed_lr: factor on the patch embedding's (DINOv2: 0.2).
    frozen: steps that parameters whose names start with a prefix wait for, such as DINO's last layer.
    muon: set apart the backbone's hidden matrices, those between its stem and its heads.
    """
    depths = layer_ids(module) if layer_decay != 1.0 or muon else {}
    top = max(depths.values(), default=-1) + 1
    if layer_decay != 1.0 and not depths:
        raise ValueError("layer-wise decay of the learning rate needs a backbone made of numbered layers")
    spared = _spared(module)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depths.get(name, top)
        waits = max((steps for prefix, steps in (frozen or {}).items() if name.startswith(prefix)), default=0)
        embeds = patch_embed_lr != 1.0 and _STEM.search(name) is not None
        decays = parameter.ndim > 1 and name not in spared and not _SPARED.search(name)
        hidden = muon and parameter.ndim == 2 and decays and 0 < depth < top
        label = f"layer-{depth:02d}" if layer_decay != 1.0 and depth < top else "heads" if depths else "all"
        marks = [
            label,
            "patch-embed" * embeds,
            "muon" * hidden,
            f"frozen-{waits}" * (waits > 0),
            "plain" * (not decays),
        ]
        key = ".".join(mark for mark in marks if mark)
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "weight_decay": weight_decay if decays else 0.0,
                "lr_factor": layer_decay ** (top - depth) * (patch_embed_lr if embeds else 1.0),
                "decay_factor": float(decays),
                "frozen_steps": waits,
                **({"muon": True} if hidden else {}),
            },
        )
        group["params"].append((name, parameter))
    return list(groups.values())


def _spared(module: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, child in module.named_modules()
        if hasattr(child, "no_weight_decay")
        for name in child.no_weight_decay()  # type: ignore[operator]
    }


def set_rates(optimiser: Optimizer, step: int, *, lr: float, weight_decay: float) -> None:
    """Give every group its learning rate and weight decay for `step` (counted from 0), by its own factors."""
    for group in optimiser.param_groups:
        awake = step >= group.get("frozen_steps", 0)
        group["lr"] = lr * group.get("lr_factor", 1.0) * awake
        group["weight_decay"] = weight_decay * group.get("decay_factor", 1.0)
