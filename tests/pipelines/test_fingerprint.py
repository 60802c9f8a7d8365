"""The code fingerprint sees what computes and nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from pipelines import fingerprint

STAGE = '''
"""A stage."""
import os
from shapes.area import area  # the helper


def run(x: int) -> int:
    """Doubles."""
    return area(x) * 2
'''
HELPER = "def area(x):\n    return x * x\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "shapes"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "stage.py").write_text(STAGE)
    (root / "area.py").write_text(HELPER)
    (root / "other.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    importlib.invalidate_caches()
    yield root
    sys.modules.pop("shapes", None)


def taken() -> str:
    for cached in (fingerprint._source, fingerprint._module, fingerprint._parsed):
        cached.cache_clear()
    return fingerprint.code_fingerprint(["shapes.stage"])


def test_a_changed_helper_is_noticed(package: Path) -> None:
    before = taken()
    (package / "area.py").write_text(HELPER.replace("x * x", "x * x * x"))
    assert taken() != before


@pytest.mark.parametrize(
    "changed",
    [
        STAGE.replace("# the helper", "# another word"),
        STAGE.replace('"""Doubles."""', '"""Twice the area."""'),
        STAGE.replace("area(x) * 2", "(\n        area(x)\n        * 2\n    )"),
        STAGE.replace('"""A stage."""', ""),
    ],
    ids=["comment", "docstring", "format", "module docstring"],
)
def test_words_and_layout_are_not(package: Path, changed: str) -> None:
    before = taken()
    (package / "stage.py").write_text(changed)
    assert taken() == before


@pytest.mark.parametrize(
    "changed",
    [STAGE.replace("* 2", "* 3"), STAGE.replace("x: int", "x: int = 1"), STAGE.replace("run", "walk")],
    ids=["constant", "default", "name"],
)
def test_meaning_is(package: Path, changed: str) -> None:
    before = taken()
    (package / "stage.py").write_text(changed)
    assert taken() != before


def test_a_module_that_is_not_imported_does_not_count(package: Path) -> None:
    before = taken()
    (package / "other.py").write_text("x = 2\n")
    assert taken() == before


def test_a_remembered_parse_gives_the_same_fingerprint(package: Path, tmp_path: Path) -> None:
    before = taken()
    assert (tmp_path / "cache" / "curatrain" / "code.json").exists()
    assert taken() == before
    (tmp_path / "cache" / "curatrain" / "code.json").write_text("torn {")
    assert taken() == before


def test_how_stages_are_called_does_not_count() -> None:
    assert "stages.base" not in fingerprint._closure(["stages.tables"])
    assert "stages.tables" in fingerprint._closure(["stages.tables"])
