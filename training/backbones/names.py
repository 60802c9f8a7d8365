"""The names of timm's models, read from its sources: nothing heavy is imported, so a spec can be checked at once."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_VIT_MODULES = {"vision_transformer", "deit"}


@functools.cache
def _module_of() -> dict[str, str]:
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "models"
    return {name: path.stem for path in sorted(folder.glob("*.py")) for name in _REGISTERED.findall(path.read_text())}


def timm_model_names() -> list[str]:
    """Every architecture of the installed timm, sorted; empty where timm is not installed."""
    return sorted(_module_of())


def is_vit(name: str) -> bool:
    """Whether a timm name is a plain vision transformer, whose patch tokens can be dropped and masked."""
    return _module_of().get(name.split(".")[0]) in _VIT_MODULES


def check_name(name: str) -> str:
    """`name` itself. Raises ValueError with the nearest names where the installed timm has no such architecture."""
    known = _module_of()
    if known and name not in known:
        near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "`timm.list_models()` lists them"
        raise ValueError(f"timm has no model '{name}'; {hint}")
    return name
