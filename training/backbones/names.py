"""The names of timm's and open_clip's models, read from their files: nothing heavy is imported to check a spec."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

OPEN_CLIP = "open_clip:"
_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_CLASSES = {"resnet": "ResNet", "vision_transformer": "VisionTransformer"}
_VIT_MODULES = {"vision_transformer", "deit", "eva"}


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


@functools.cache
def _module_of() -> dict[str, str]:
    folder = _folder("timm")
    files = sorted((folder / "models").glob("*.py")) if folder else []
    return {name: path.stem for path in files for name in _REGISTERED.findall(path.read_text())}


@functools.cache
def _towers() -> dict[str, dict[str, Any]]:
    folder = _folder("open_clip")
    files = sorted((folder / "model_configs").glob("*.json")) if folder else []
    return {path.stem: json.loads(path.read_text())["vision_cfg"] for path in files}


def timm_model_names() -> list[str]:
    """Every architecture of the installed timm, sorted; empty where timm is not installed."""
    return sorted(_module_of())


def open_clip_names() -> list[str]:
    """Every model of the installed open_clip, sorted, as `open_clip:NAME`."""
    return [OPEN_CLIP + name for name in sorted(_towers())]


def is_vit(name: str) -> bool:
    """Whether a name is that of a vision transformer whose patch tokens can be dropped and masked."""
    if name.startswith(OPEN_CLIP):
        tower = _towers().get(name.removeprefix(OPEN_CLIP), {})
        trunk = tower.get("timm_model_name")
        return is_vit(trunk) if trunk else isinstance(tower.get("layers"), int)
    return _module_of().get(name.split(".")[0]) in _VIT_MODULES


def patch_size(name: str) -> int:
    """Pixels along a patch's side as a name or its config says; 1 where neither does."""
    tower = _towers().get(name.removeprefix(OPEN_CLIP), {}) if name.startswith(OPEN_CLIP) else {}
    named = re.search(r"patch(\d+)", tower.get("timm_model_name") or name)
    side = int(named[1]) if named else tower.get("patch_size", 16 if tower else 1)
    return int(side)


def family(name: str) -> str:
    """timm's module that defines an architecture, such as "vision_transformer"; "" where it isn't known."""
    return _module_of().get(name.split(".")[0], "")


@functools.cache
def _arguments(name: str) -> frozenset[str]:
    """Arguments of the class that timm builds an architecture by; empty where that is not known."""
    module = family(name)
    builder, folder = _CLASSES.get(module), _folder("timm")
    if builder is None or folder is None:
        return frozenset()
    for node in ast.parse((folder / "models" / f"{module}.py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == builder:
            [init] = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
            return frozenset(a.arg for a in [*init.args.args, *init.args.kwonlyargs])
    return frozenset()


def check_options(name: str, options: Iterable[str]) -> None:
    """Raises ValueError with what is taken, where timm's class of this architecture does not know an option.

    Architectures whose class is not known here pass.
    """
    known = _arguments(name) - {"self", "block", "layers", "num_classes"}
    strange = [option for option in options if known and option not in known and not option.startswith("token_boost")]
    if strange:
        near = difflib.get_close_matches(strange[0], sorted(known), n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(near)}?" if near else f"it takes {', '.join(sorted(known))}"
        raise ValueError(f"backbone_options.{strange[0]} does not fit backbone '{name}'; {hint}")


def check_name(name: str) -> str:
    """`name` itself. Raises ValueError with the nearest names where no installed library has such an architecture."""
    library, known = ("open_clip", open_clip_names()) if name.startswith(OPEN_CLIP) else ("timm", timm_model_names())
    if known and name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"`{library}.list_models()` lists them"
        raise ValueError(f"{library} has no model '{name.removeprefix(OPEN_CLIP)}'; {hint}")
    return name
