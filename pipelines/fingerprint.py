"""The code of a stage as it enters the key: the syntax tree of its module and of what it imports in our packages.

Positions, comments, docstrings and formatting stay out, so that a reformatting changes nothing and a changed helper
is noticed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("stages", "curation", "training")
CONTRACTS = {"stages.base", "stages.artifact", "stages.compute", "stages.in_process", "stages.registry"}
"""How stages are called, not what they compute: left out, so that such a change does not rebuild every artifact."""

_SILENT = {"ctx", "type_comment", "kind"}
_FORMAT = 1  # of the normalised text
_CACHED = 2000  # parses that the cache keeps
_new: set[str] = set()


def code_fingerprint(modules: Iterable[str]) -> str:
    """SHA-256 of the normalised code of `modules` and of all that they import inside our packages."""
    digest = hashlib.sha256()
    for name in sorted(_closure(modules)):
        digest.update(f"{name}:{_module(name)[0]};".encode())
    _remember()
    return digest.hexdigest()


def _closure(modules: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    roots = {name.split(".")[0] for name in waiting} | set(PACKAGES)
    while waiting:
        name = waiting.pop()
        if name in found or name in CONTRACTS or name.split(".")[0] not in roots or _source(name) is None:
            continue
        found.add(name)
        waiting += _module(name)[1]
    return found


@cache
def _source(name: str) -> Path | None:
    root, *rest = name.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin) if not rest else None
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    for path in (folder.with_suffix(".py") if rest else folder / "__init__.py", folder / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's normalised code, and what it imports."""
    path = _source(name)
    assert path is not None
    source = path.read_bytes()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    known = hashlib.sha256(f"{_FORMAT}:{package}:".encode() + source).hexdigest()
    if known not in _parsed():
        tree = ast.parse(source)
        text: list[str] = []
        _normalise(tree, text)
        _parsed()[known] = [hashlib.sha256("".join(text).encode()).hexdigest(), sorted(set(_imports(tree, package)))]
        _new.add(known)
    digest, imports = _parsed()[known]
    return digest, tuple(imports)


@cache
def _parsed() -> dict[str, list]:
    """What parsing gave for sources seen before, by their digest: parsing all modules takes longer than planning."""
    try:
        return json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}


def _remember() -> None:
    """Keep new parses for the next process; a cache that cannot be written costs time and nothing else."""
    if not _new:
        return
    path = _cache_file()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(dict(list(_parsed().items())[-_CACHED:])))
        temporary.replace(path)
    _new.clear()


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "curatrain" / "code.json"


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _normalise(node: object, text: list[str]) -> None:
    if isinstance(node, ast.AST):
        text.append(f"({type(node).__name__}")
        for field in node._fields:
            value = getattr(node, field, None)
            if field == "body" and isinstance(value, list):
                value = _without_docstring(node, value)
            if value is None or value == [] or field in _SILENT:
                continue
            text.append(f" {field}=")
            _normalise(value, text)
        text.append(")")
    elif isinstance(node, list):
        for item in node:
            _normalise(item, text)
            text.append(",")
    else:
        text.append(repr(node))


def _without_docstring(node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] if isinstance(body[0].value.value, str) else body
    return body
