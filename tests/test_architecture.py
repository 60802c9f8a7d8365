"""Who may import whom, and how light the parts are that every command loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from stages.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "pipelines": {"pipelines", "stages", "curation", "training"},
    "stages": {"stages", "curation", "training"},
    "curation": {"curation"},
    "training": {"training"},
}
MAY_IMPORT_MLFLOW = ("pipelines.tracking", "stages.register")
MAY_IMPORT_RAY = ("pipelines",)
HEAVY = ("torch", "ray", "mlflow", "faiss", "pyarrow", "numpy", "PIL", "scipy", "timm", "matplotlib")
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    found = {}
    for package in ALLOWED:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _is_skipped_on_import(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__main__"))


def _imports(tree: ast.AST, anywhere: bool) -> Iterator[tuple[str, list[str], int]]:
    """(module, names, line) of the imports that run with the module, or `anywhere` in it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: the house imports by full name"
            yield node.module or "", [alias.name for alias in node.names], node.lineno
        elif anywhere or not (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _is_skipped_on_import(node)
        ):
            yield from _imports(node, anywhere)


def _imported(name: str, anywhere: bool) -> Iterator[tuple[str, int]]:
    """Our or foreign modules that module `name` imports; `from package import module` counts as the module."""
    for module, names, line in _imports(ast.parse(modules()[name].read_text()), anywhere):
        inner = [f"{module}.{n}" for n in names if f"{module}.{n}" in modules()]
        yield from ((target, line) for target in inner)
        if len(inner) < len(names) or not names:
            yield module, line


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{name}:{line} imports {target}"
        for name in modules()
        if name.split(".")[0] == package
        for target, line in _imported(name, anywhere=True)
        if target.split(".")[0] in ALLOWED and target.split(".")[0] not in ALLOWED[package]
    ]
    assert wrong == []


@pytest.mark.parametrize(("library", "allowed"), [("mlflow", MAY_IMPORT_MLFLOW), ("ray", MAY_IMPORT_RAY)])
def test_only_the_named_modules_import(library: str, allowed: tuple[str, ...]) -> None:
    wrong = [
        f"{name}:{line}"
        for name in modules()
        if not any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)
        for target, line in _imported(name, anywhere=True)
        if target.split(".")[0] == library
    ]
    assert wrong == []


def test_modules_import_each_other_without_cycles() -> None:
    graph = {
        name: {target for target, _ in _imported(name, anywhere=False) if target in modules() and target != name}
        for name in modules()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("a cycle of imports: " + " <- ".join(error.args[1]))
    assert set(order) == set(modules())


def test_every_module_has_a_name_of_its_own() -> None:
    nameless = [name for name in modules() if NAMELESS & set(name.split("."))]
    assert nameless == []


def test_no_module_is_long() -> None:
    long = {name: n for name, path in modules().items() if (n := len(path.read_text().splitlines())) > 400}
    assert long == {}


def _loaded_by(code: str) -> list[str]:
    probe = f"{code}\nimport sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_stage_modules_are_light() -> None:
    names = sorted({target.partition(":")[0] for target in BUILT_IN.values()})
    assert _loaded_by("import " + ", ".join(names)) == []


def test_every_registered_stage_is_there() -> None:
    code = "from stages.registry import BUILT_IN, stage_class\nassert all(stage_class(n).type == n for n in BUILT_IN)"
    assert _loaded_by(code) == []


def test_the_command_line_is_light() -> None:
    code = (
        "from pipelines import cli\nfrom contextlib import suppress\nimport sys\nsys.argv = ['curatrain', '--help']\n"
    )
    code += "with suppress(SystemExit): cli.main()"
    assert _loaded_by(code) == []
