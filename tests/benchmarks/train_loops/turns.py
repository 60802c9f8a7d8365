"""Runs loops as processes that take turns, and counts the CPU-seconds of each turn."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.peers import ROOT


class Contender:
    """A loop that waits at its gate.

    command: of a process that speaks `gate.Gate`. CPU-seconds are those of the process and of all its children, from
    the end of one turn to the end of the next: what loaders prepare between turns belongs to the turn that uses it.
    """

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._log = log.open("w")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        self.cpu_seconds: list[float] = []
        self.wall_seconds: list[float] = []

    def ready(self) -> None:
        """Wait until the loop stands at its gate for the first time."""
        self._last = self._report()

    def turn(self) -> None:
        """Let it run one turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        since = self._last
        self._last = self._report()
        steps = self._last["steps"] - since["steps"]
        self.cpu_seconds.append((self._last["cpu"] - since["cpu"]) / steps)
        self.wall_seconds.append((self._last["wall"] - since["wall"]) / steps)

    def close(self) -> None:
        """Let it end."""
        self._process.communicate("\n", timeout=60)
        self._log.close()

    def _report(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith('{"cpu"'):  # what imports print before there is a gate
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended early; {self._log.name} has what it said")
        report = json.loads(line)
        report["cpu"] += _children(self._process.pid)
        return report


def _children(pid: int) -> float:
    """CPU-seconds of the children of a process, living and waited for."""
    process = psutil.Process(pid)
    ended = process.cpu_times()
    living = sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))
    return living + ended.children_user + ended.children_system


def compare(commands: dict[str, list[str]], rounds: int, logs: Path) -> dict[str, Contender]:
    """Start all loops, then let each take a turn a round, in an order that turns with the rounds.

    The first turn of each is a warm-up and not counted.
    """
    contenders = [Contender(name, command, logs / f"{name}.log") for name, command in commands.items()]
    try:
        for contender in contenders:
            contender.ready()
        for number in range(rounds + 1):
            for position in range(len(contenders)):
                contenders[(number + position) % len(contenders)].turn()
        for contender in contenders:
            del contender.cpu_seconds[0], contender.wall_seconds[0]
        return {contender.name: contender for contender in contenders}
    finally:
        for contender in contenders:
            contender.close()
