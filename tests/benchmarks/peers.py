"""Peers live in virtual environments of their own, so that what they need never meets what curatrain needs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".benchmarks"
RESULTS = Path(__file__).resolve().parent / "results"


def peer_python(name: str, requirements: list[str]) -> Path:
    """The interpreter of a peer's environment, made by pip at first and again when its requirements change."""
    home = ENVIRONMENTS / name
    python = home / "bin" / "python"
    wanted = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    stamp = home / "requirements.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        stamp.write_text(wanted)
    return python


def keep_result(name: str, command: str, figures: Any) -> Path:
    """Write `results/NAME.json`: the figures with the date, the command and the machine that gave them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    result = {"date": date.today().isoformat(), "command": command, "machine": machine, "figures": figures}
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
