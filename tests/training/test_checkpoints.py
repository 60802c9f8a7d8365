from __future__ import annotations

from pathlib import Path

import torch

from training.checkpoints import load_newest, save_checkpoint


def test_the_newest_comes_back(tmp_path: Path) -> None:
    for step in (5, 10):
        save_checkpoint(tmp_path, step, {"w": torch.full((3,), float(step))}, keep=2)
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 10
    assert torch.equal(state["w"], torch.full((3,), 10.0))


def test_a_damaged_one_is_skipped(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, {"w": torch.ones(1000)}, keep=3)
    torn = save_checkpoint(tmp_path, 10, {"w": torch.ones(1000)}, keep=3)
    torn.write_bytes(torn.read_bytes()[:-100])
    flipped = save_checkpoint(tmp_path, 15, {"w": torch.ones(1000)}, keep=3)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    (tmp_path / ".step-000000020-0123456789abcdef.pt.1.tmp").write_bytes(b"half")
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 5


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, {"w": torch.ones(2)}, keep=2)
    assert [path.name[:14] for path in sorted(tmp_path.iterdir())] == ["step-000000004", "step-000000005"]


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "missing") is None
