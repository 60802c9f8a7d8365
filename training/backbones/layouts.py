"""Weights under other names and in other shapes, brought to those of the model that takes them."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from timm.layers import resample_patch_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from training.backbones.embedded import resampled_positions

State = dict[str, Tensor]

_PREFERRED = ("ema", "teacher", "target", "momentum")
_PRETRAINING_ONLY = re.compile(r"(mask_token|decoder.*|lm_head\..*)")
_HUGGING_FACE = "embeddings.patch_embeddings.projection.weight"
_HUGGING_FACE_NAMES = [
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.", ""),
    (r"encoder\.layer\.", "blocks."),
    (r"attention\.attention\.(query|key|value)\.", r"attn.\1."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"mlp\.weights_in\.", "mlp.w12."),
    (r"mlp\.weights_out\.", "mlp.w3."),
    (r"^layernorm\.", "norm."),
]


def adapted(state: Mapping[str, Tensor], model: Any) -> State:
    """`state` in the names and shapes of `model`, as far as it's known how.

    Common prefixes go, and what isn't below them (heads of a training). Names of DINOv2 and of Hugging Face's ViT and
    DINOv2 are translated, timm's own conversions of other publishers' files are used, files with the same shapes in
    the same order are taken in that order. Positions are resampled to the model's grid, patch embeddings to its patch
    size, stems to its number of input channels. Classifiers and parts that only pretraining uses are left out.
    """
    own = model.state_dict()
    found = _without_prefix(dict(state), own)
    found = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): value for name, value in found.items()}
    if not own.keys() & found.keys():
        found = _by_order(found, own)
    found = _stem(found, own, model)
    found = _converted(found, own, model)
    classifiers = getattr(model, "default_cfg", {}).get("classifier") or "fc"
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    return {
        name: value
        for name, value in found.items()
        if name in own
        or not (name.startswith(tuple(f"{c}." for c in classifiers)) or _PRETRAINING_ONLY.fullmatch(name))
    }


def misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A line for each tensor that is missing, extra or misshapen."""
    lines = [f"{name} is missing" for name in own if name not in state]
    lines += [f"{name} is not part of the model" for name in state if name not in own]
    for name, value in own.items():
        if name in state and state[name].shape != value.shape:
            lines.append(f"{name} is {_shape(state[name])}, the model's is {_shape(value)}")
    return lines


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "a scalar"


def _without_prefix(state: State, own: Mapping[str, Tensor]) -> State:
    """What stands below the prefix under which most of the model's names are found; of equals, the teacher's."""
    marks = [name.removesuffix(_HUGGING_FACE) for name in state if name.endswith(_HUGGING_FACE)]
    if marks:
        return _from_hugging_face(_below(state, marks[0]))
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                counts["".join(f"{part}." for part in parts[:start])] += 1
    if not counts:
        return state
    best = max(counts, key=lambda prefix: (counts[prefix], any(w in prefix for w in _PREFERRED), -len(prefix), prefix))
    return _below(state, best)


def _below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _from_hugging_face(state: State) -> State:
    named: State = {}
    for name, value in state.items():
        for pattern, new in _HUGGING_FACE_NAMES:
            name = re.sub(pattern, new, name)
        named[name] = value
    result = {n: v for n, v in named.items() if not re.search(r"\.attn\.(query|key|value)\.", n)}
    for name in [n for n in named if ".attn.query." in n]:
        parts = [named[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
        result[name.replace(".query.", ".qkv.")] = torch.cat(parts)
    return {name: value for name, value in result.items() if not name.startswith("pooler.")}


def _by_order(state: State, own: Mapping[str, Tensor]) -> State:
    """Names of the model for tensors of the same shapes in the same order; a classifier may follow.

    The first tensor is the stem's: its input channels may differ.
    """
    pairs = list(zip(own, state.values(), strict=False))
    differ = [i for i, (name, value) in enumerate(pairs) if own[name].shape != value.shape]
    stem = differ == [0] and _but_inputs(own[pairs[0][0]]) == _but_inputs(pairs[0][1])
    fits = len(own) <= len(state) <= len(own) + 2 and (not differ or stem)
    return dict(pairs) if fits else state


def _but_inputs(kernel: Tensor) -> list[int]:
    return [side for axis, side in enumerate(kernel.shape) if axis != 1]


def _stem(state: State, own: Mapping[str, Tensor], model: Any) -> State:
    first = getattr(model, "default_cfg", {}).get("first_conv") or ()
    for name in [f"{n}.weight" for n in ((first,) if isinstance(first, str) else first)]:
        value = state.get(name)
        if value is None or name not in own or value.ndim != 4 or value.shape[1] == own[name].shape[1]:
            continue
        base = {} if value.shape[1] == 3 else {"base_chans": value.shape[1]}
        state = {**state, name: adapt_input_conv(own[name].shape[1], value, **base)}
    return state


def _converted(state: State, own: Mapping[str, Tensor], model: Any) -> State:
    """timm's conversion for the model's architecture, unless names and shapes are the model's already."""
    if not misfits({n: v for n, v in state.items() if n in own}, own):
        return state
    if "conv1.weight" in own and "positional_embedding" in own:
        return _open_clip_shapes(state, own, model)
    if "register_tokens" in state:
        state.setdefault("mask_token", torch.zeros(1))  # by which timm knows files of DINOv2
    filters = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    return state if filters is None else dict(filters(dict(state), model))


def _open_clip_shapes(state: State, own: Mapping[str, Tensor], model: Any) -> State:
    positions, kernel = state.get("positional_embedding"), state.get("conv1.weight")
    if positions is not None and positions.shape[0] != own["positional_embedding"].shape[0]:
        side = round((positions.shape[0] - 1) ** 0.5)
        grid = resampled_positions(positions[1:].unsqueeze(0), (side, side), tuple(model.grid_size))[0]
        state = {**state, "positional_embedding": torch.cat([positions[:1], grid])}
    if kernel is not None and kernel.shape[2:] != own["conv1.weight"].shape[2:]:
        state = {**state, "conv1.weight": resample_patch_embed(kernel, list(own["conv1.weight"].shape[2:]))}
    return state


def named(lines: Iterable[str], most: int = 6) -> str:
    """The first `most` of the lines, and how many more there are."""
    lines = list(lines)
    more = f" and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all of `state`. Raises ValueError that names every kind of misfit."""
    wrong = misfits(state, model.state_dict())
    if wrong:
        raise ValueError(f"{origin} does not fit {type(model).__name__}: {named(wrong)}")
    model.load_state_dict(dict(state))
