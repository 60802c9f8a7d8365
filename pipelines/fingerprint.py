"""The code of a stage as it enters the key: the syntax tree of its module and of what it imports in our packages.

Positions, comments, docstrings and formatting stay out, so that a reformatting changes nothing and a changed helper
is noticed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("stages", "curation", "training")
CONTRACTS = {"stages.base", "stages.artifact", "stages.compute", "stages.in_process", "stages.registry"}
"""How stages are called, not what they compute: left out, so that such a change does not rebuild every artifact."""


def code_fingerprint(modules: Iterable[str]) -> str:
    """SHA-256 of the normalised code of `modules` and of all that they import inside our packages."""
    digest = hashlib.sha256()
    for name in sorted(_closure(modules)):
        digest.update(f"{name}:{_module(name)[0]};".encode())
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
    path = _source(name)
    assert path is not None
    tree = ast.parse(path.read_bytes())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = tuple(_imports(tree, package))
    text = "".join(_normalised(tree))
    return hashlib.sha256(text.encode()).hexdigest(), imports


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


def _normalised(node: object) -> Iterator[str]:
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for field in node._fields:
            value = getattr(node, field, None)
            if field == "body" and isinstance(value, list) and not isinstance(node, ast.Lambda | ast.IfExp):
                value = _without_docstring(node, value)
            if value is None or value == [] or field in {"ctx", "type_comment", "kind"}:
                continue
            yield f" {field}="
            yield from _normalised(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _normalised(item)
            yield ","
    else:
        yield repr(node)


def _without_docstring(node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] if isinstance(body[0].value.value, str) else body
    return body
