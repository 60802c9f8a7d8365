"""Published data recipes as parameters of curate, in two sizes.

A preset named `*-full` has the paper's own numbers, for pools of the paper's size. The one without the suffix is
scaled to any pool by one rule: *a count of clusters keeps its exponent, a number of images keeps its share, and a
number for each image stays*. So K clusters of the paper's N images become n^(ln K / ln N) clusters of n images, which
keeps the levels of a tree apart at any size and gives the paper's K at the paper's N; a target keeps its share of the
pool; images of a cluster keep their ratio to the mean size of a cluster; images for each seed image, ratios and
thresholds stay as they are. Caps of one seed set have no counterpart: sets share the target equally. Clusterings run
as long as curate's own defaults, in `*-full` as long as the papers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

_DINOV2: dict[str, Any] = {
    "method": "mixture",
    "target": 0.168,  # 124.9 M of 744 M
    "cluster_counts": [0.5636],  # 100,000 of 744 M
    "rounds": 0,
    "retrieval": {"by": "auto", "sample_from": 0.00134, "per_query": 4, "more_than": 3, "per_cluster": 1.344},
    "seeds": {"join": "all"},
    "mixture": {"clustered": 0.0},
}
_DINOV2_FULL: dict[str, Any] = {
    **_DINOV2,
    "target": 124_897_568,
    "cluster_counts": [100_000],
    "iterations": 50,
    "retrieval": {
        "by": "auto",
        "sample_from": 1_000_000,
        "per_query": 4,
        "more_than": 3,
        "per_cluster": 10_000,
        "cap": 1_000_000,
        "sets": {"imagenet1k": {"by": "sample", "per_query": 32}},
    },
}
_DINOV3: dict[str, Any] = {
    "method": "mixture",
    "target": 0.2,  # 1,689 M of 17 B from clusters, and as many retrieved, whose number the paper does not give
    "cluster_counts": [0.8114, 0.6748, 0.577, 0.4887, 0.4299],  # 200 M, 8 M, 800 k, 100 k and 25 k of 17 B
    "retrieval": {"by": "auto", "sample_from": 0.00134, "per_query": 0, "more_than": 3, "per_cluster": 1.344},
    "seeds": {"join": "all"},
    "mixture": {"clustered": 0.5, "homogeneous": 0.1},
}
_DINOV3_FULL: dict[str, Any] = {
    **_DINOV3,
    "target": 3_378_000_000,
    "cluster_counts": [200_000_000, 8_000_000, 800_000, 100_000, 25_000],
    "rounds": 10,
    "iterations": 50,
    "retrieval": {"by": "auto", "sample_from": 1_000_000, "per_query": 0, "more_than": 3, "per_cluster": 10_000},
    "mixture": {"clustered": 0.5, "homogeneous": {"imagenet1k": 0.1}},
}
_SEMDEDUP: dict[str, Any] = {
    "method": "semdedup",
    "target": 0.63,  # 37 % removed without loss
    "cluster_counts": [0.5436],  # 50,000 of 440 M
    "rounds": 0,
    "semdedup": {"keep": "hard"},
}
_D4: dict[str, Any] = {
    **_SEMDEDUP,
    "target": 0.6,  # the paper keeps .75 after semantic dedup and varies the share of prototypes that go then
    "semdedup": {"keep": "hard", "prototypes": 0.2},
}
"""D4 (Tirumala et al., arXiv 2308.12284), which is about text, with SemDeDup's clusters of images."""
_SIMCORE: dict[str, Any] = {
    "method": "simcore",
    "target": 1.0,
    "simcore": {"centroids": 0.3275, "patience": 20, "stop_ratio": 0.95, "budget": 50.0},  # 100 of 1.28 M
    "seeds": {"join": "all"},
}

PRESETS: dict[str, dict[str, Any]] = {
    "dinov2": _DINOV2,
    "dinov2-full": _DINOV2_FULL,
    "dinov3": _DINOV3,
    "dinov3-full": _DINOV3_FULL,
    "semdedup": _SEMDEDUP,
    "semdedup-full": {**_SEMDEDUP, "cluster_counts": [50_000], "iterations": 100},
    "d4": _D4,
    "simcore": _SIMCORE,
    "simcore-full": {**_SIMCORE, "simcore": {**_SIMCORE["simcore"], "centroids": 100}},
    "random": {"method": "random"},
}
"""Parameters by preset; the full ones take ImageNet-1k to be the seed set `imagenet1k`."""


def preset_params(name: str) -> dict[str, Any]:
    """All that a preset sets, with its name: what a spec may say in place of `preset: NAME`."""
    return {"preset": name, **deepcopy(PRESETS[name])}


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with those of their preset below them; what is given itself goes before. Unknown names stay."""
    preset = PRESETS.get(given.get("preset") or "", {}) if isinstance(given.get("preset"), str) else {}
    return _merged(preset, given)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(below))
    for key, value in above.items():
        inner = merged.get(key)
        nested = isinstance(inner, dict) and isinstance(value, Mapping)
        merged[key] = _merged(inner, value) if nested else value  # type: ignore[arg-type]
    return merged


def described(value: Any) -> str:
    """Parameters as a short text for the plan: groups with what is not as by default."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inner(inner)}" for key, inner in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _inner(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(described(item) for item in value) + "]"
    return f"({described(value)})" if isinstance(value, Mapping | BaseModel) else described(value)
