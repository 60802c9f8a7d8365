"""What every objective has to prove."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.objectives.small_models import SETTINGS, double_views, small_objective, small_plan
from tests.training.samples import write_sample_shards
from training.checkpoints import load_newest
from training.history import read_history
from training.loop import pretrain
from training.norms import synchronised
from training.objectives import catalogue
from training.objectives.base import StepState
from training.process_group import all_reduce_mean, average_gradients, rank, spawn, world

OBJECTIVES = sorted(SETTINGS)
STATE = StepState(step=0, steps=10, epoch=0, seed=1)


def test_every_objective_is_here() -> None:
    assert set(catalogue.names()) == set(SETTINGS)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_reach_every_part_that_learns(name: str) -> None:
    objective = small_objective(name).double().train()
    losses = objective(double_views(name, np.arange(8)), STATE)
    losses.total.backward()
    deaf = [
        key
        for key, p in objective.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum())
    ]
    # A residual branch whose last scale starts at zero passes nothing back at the first step.
    assert [key for key in deaf if ".layer" not in key] == []
    assert losses.features.shape[1] == objective.backbone.dim


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_come_from_every_view(name: str) -> None:
    objective = small_objective(name).double().train()
    views = double_views(name, np.arange(8))
    views.crops.requires_grad_()
    objective(views, STATE).total.backward()
    assert views.crops.grad is not None
    assert bool((views.crops.grad.flatten(1).abs().sum(1) > 0).all())


def _one_step(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    objective = synchronised(small_objective(config["name"]).double()).train()
    share = np.array_split(np.arange(config["batch"]), world())[rank()]
    total = objective(double_views(config["name"], share), STATE).total
    total.backward()
    average_gradients(objective.parameters())
    loss = all_reduce_mean(total)
    if rank() == 0:
        gradients = {key: p.grad for key, p in objective.named_parameters() if p.grad is not None}
        torch.save({"loss": loss, "gradients": gradients, "buffers": dict(objective.named_buffers())}, config["out"])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_rank_equals_two(name: str, tmp_path: Path) -> None:
    for workers in (1, 2):
        config = {"name": name, "batch": 12, "out": str(tmp_path / f"{workers}.pt")}
        _one_step(config) if workers == 1 else spawn(_one_step, config, workers)
    one, two = (torch.load(tmp_path / f"{workers}.pt") for workers in (1, 2))
    assert torch.allclose(one["loss"], two["loss"], atol=1e-12, rtol=1e-12)
    for part in ("gradients", "buffers"):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            assert torch.allclose(value.double(), two[part][key].double(), atol=1e-9, rtol=1e-7), key


def _final(work: Path) -> dict[str, torch.Tensor]:
    return {**load_file(work / "backbone.safetensors"), **load_file(work / "heads.safetensors")}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_killed_training_ends_as_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    shards = write_sample_shards(tmp_path / "shards", 40)
    whole, broken = small_plan(name, shards, tmp_path / "whole"), small_plan(name, shards, tmp_path / "broken")
    pretrain(whole.to_dict())
    code = f"from training.loop import pretrain\npretrain({broken.to_dict()!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while len(read_history(tmp_path / "broken" / "history.jsonl")) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = load_newest(broken.checkpoints)
    assert state is not None
    assert 2 <= state["step"] < 8
    assert not (tmp_path / "broken" / "backbone.safetensors").exists()
    pretrain(broken.to_dict())
    expected, found = _final(tmp_path / "whole"), _final(tmp_path / "broken")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    histories = [read_history(tmp_path / run / "history.jsonl") for run in ("whole", "broken")]
    assert [line["step"] for line in histories[1]] == list(range(1, 9))
    assert [line["loss"] for line in histories[0]] == [line["loss"] for line in histories[1]]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_falls_and_features_do_not_collapse(name: str, tmp_path: Path) -> None:
    shards = write_sample_shards(tmp_path / "shards", 40)
    pretrain(small_plan(name, shards, tmp_path / "work", steps=100, batch=32, lr=2e-3, checkpoint_every=100).to_dict())
    lines = read_history(tmp_path / "work" / "history.jsonl")
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5])
    assert lines[-1]["feature_std"] > 0.05
