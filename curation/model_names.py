"""The names that timm registers, read from its sources without importing it (an import costs seconds)."""

from __future__ import annotations

import difflib
import functools
import re
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(rb"\n@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)")


@functools.cache
def timm_model_names() -> frozenset[str]:
    """Names of timm's models; empty where timm isn't installed or its sources don't look as expected."""
    spec = find_spec("timm")  # a top-level name: finding it runs none of its code
    if spec is None or spec.origin is None:
        return frozenset()
    sources = sorted((Path(spec.origin).parent / "models").glob("*.py"))
    return frozenset(name.decode() for path in sources for name in _REGISTERED.findall(path.read_bytes()))


def nearest_names(name: str, count: int = 3) -> list[str]:
    """The registered names closest to a misspelt one, best first."""
    return difflib.get_close_matches(name, sorted(timm_model_names()), n=count, cutoff=0.6)


def check_model_name(name: str) -> None:
    """Raise ValueError, with the nearest names, where timm has no such model.

    `name` may carry a pretrained tag after a dot (`resnet18.a1_in1k`); tags aren't checked. Without timm's names
    every name passes.
    """
    names = timm_model_names()
    if names and name.split(".")[0] not in names:
        nearest = nearest_names(name.split(".")[0])
        hint = f"; did you mean {' or '.join(repr(match) for match in nearest)}?" if nearest else ""
        raise ValueError(f"timm has no model named {name!r}{hint}")
