"""The README's own objective, from its text to trained weights."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.training.objectives.small_models import SMALL_RESNET, small_plan
from tests.training.samples import write_sample_shards
from training.history import read_history
from training.loop import pretrain
from training.objectives import catalogue

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The code and the entry point that the README shows, as an installed package; returns the code."""
    text = README.read_text()
    code = re.search(r'```python\n("""mine/align_uniform\.py""".*?)```', text, re.DOTALL)
    points = re.search(r'```toml\n\[project\.entry-points\."curatrain\.objectives"\]\n(.*?)```', text, re.DOTALL)
    assert code is not None
    assert points is not None
    package, info = tmp_path / "site" / "mine", tmp_path / "site" / "mine-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "align_uniform.py").write_text(code[1])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[curatrain.objectives]\n{points[1].replace(chr(34), '')}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    catalogue._plug_ins.cache_clear()
    yield code[1]
    catalogue._plug_ins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_it_is_listed_and_trains_and_is_short(installed: str, tmp_path: Path) -> None:
    assert len(installed.splitlines()) < 60
    assert "align_uniform" in catalogue.names()
    assert catalogue.describe("align_uniform")["arxiv"] == "2005.10242"
    write_sample_shards(tmp_path / "shards", 40)
    plan = small_plan(
        "simclr",
        tmp_path / "shards",
        tmp_path / "work",
        objective=catalogue.resolve({"name": "align_uniform", "t": 1.5}),
        backbone=SMALL_RESNET,
        steps=30,
        lr=1e-3,
    )
    pretrain(plan.to_dict())
    lines = read_history(tmp_path / "work" / "history.jsonl")
    assert all(np.isclose(line["loss"], line["alignment"] + line["uniformity"], rtol=1e-4) for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]
