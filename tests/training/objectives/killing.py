"""Trainings in processes that die by kill -9."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.loop import Training, pretrain

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.objectives.killing"])  # imports are paid for once, not by each kill


def start(plan: dict[str, Any], die_before: int | None = None) -> BaseProcess:
    """Train in a process of its own; one that is to die kills itself before it takes a step (counted from 0)."""
    process = _CONTEXT.Process(target=_train, args=(plan, die_before), daemon=True)
    process.start()
    return process


def _train(plan: dict[str, Any], die_before: int | None) -> None:
    torch.set_num_threads(1)
    if die_before is not None:
        _die_before(die_before)
    pretrain(plan)


def _die_before(step: int) -> None:
    take = Training._take

    def fatal(training: Training, now: int) -> Any:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(training, now)

    Training._take = fatal  # type: ignore[method-assign]


def final_weights(work: Path) -> dict[str, torch.Tensor]:
    """Every tensor that a finished training exported, by file and name."""
    return {
        f"{path.name}: {name}": value
        for path in sorted(work.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two models are equal bit by bit."""
    return bool(first) and first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
