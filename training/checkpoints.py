"""Checkpoints of a running training: whole or not there, newest intact one first."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

import torch

_NAME = re.compile(r"^step-(\d{9})-([0-9a-f]{16})\.pt$")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Commit `state` after `step` finished steps by rename, and remove all but the newest `keep` checkpoints.

    The file's name carries the start of its SHA-256, so that a torn or damaged file is known for what it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({**state, "step": step}, buffer)
    data = buffer.getbuffer()
    path = folder / f"step-{step:09d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    temporary = folder / f".{path.name}.{os.getpid()}.tmp"
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in _committed(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The newest checkpoint whose content matches its name, or None. Only tensors and plain values are unpickled."""
    for path in _committed(folder):
        data = path.read_bytes()
        match = _NAME.match(path.name)
        if match is not None and hashlib.sha256(data).hexdigest().startswith(match[2]):
            return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    return None


def _committed(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*.pt") if _NAME.match(path.name)] if folder.exists() else []
    return sorted(found, reverse=True)
