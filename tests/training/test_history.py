from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from training.history import History, feature_spread, read_history


def test_a_resume_takes_back_what_will_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with contextlib.closing(History(path, 0)) as history:
        for step in (10, 20, 30):
            history.line(step, loss=1.0 / step)
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
    with contextlib.closing(History(path, 20)) as history:
        history.line(30, loss=0.5)
    assert [(line["step"], line["loss"]) for line in read_history(path)] == [(10, 0.1), (20, 0.05), (30, 0.5)]


def test_spread_tells_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    spread_out = torch.randn(512, 64, generator=generator)
    assert 0.9 < feature_spread(spread_out) < 1.1
    collapsed = torch.ones(512, 64) + 1e-3 * spread_out
    assert feature_spread(collapsed) < 0.01
