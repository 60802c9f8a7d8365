"""One rank, two and four: the same training, for every objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.objectives.killing import final_weights
from tests.training.objectives.small_models import OBJECTIVES, double_views, small_objective, small_plan
from tests.training.samples import write_sample_shards
from training.loop import pretrain
from training.norms import synchronised
from training.objectives.base import StepState
from training.process_group import all_reduce_mean, average_gradients, join, leave, rank, spawn, world

BATCH = 12
WORLDS = (4, 2, 1)
STEPS = 2
LR = 0.05


def _steps(name: str) -> dict[str, Any]:
    """Plain gradient descent in float64 in the present process group: losses, gradients of each step, all state."""
    objective = synchronised(small_objective(name).double()).train()
    share = np.array_split(np.arange(BATCH), world())[rank()]
    losses, gradients = [], {}
    for step in range(STEPS):
        state = StepState(step, steps=10, epoch=0, seed=1)
        total = objective(double_views(name, share), state).total
        total.backward()
        average_gradients(objective.parameters())
        losses.append(all_reduce_mean(total))
        with torch.no_grad():
            for key, parameter in objective.named_parameters():
                if parameter.grad is not None:
                    gradients[f"{step}: {key}"] = parameter.grad.clone()
                    parameter -= LR * parameter.grad
                    parameter.grad = None
            objective.after_step(state)
    return {"losses": torch.stack(losses), "gradients": gradients, "state": objective.state_dict()}


def _train_in_shrinking_groups(config: dict[str, Any]) -> None:
    """Every objective in a group of all ranks, then in one of the first two, then on the first alone."""
    torch.set_num_threads(1)
    mine, folder = rank(), Path(config["folder"])
    for ranks in WORLDS:
        leave()
        if mine >= ranks:
            return
        join(mine, ranks, folder / f"meeting-{ranks}")
        for name in OBJECTIVES:
            torch.save(_steps(name), folder / f"{name}-{ranks}-{mine}.pt")
            sgd = {"optimiser": "sgd", "lr": 1e-3, "steps": 3, "batch": 12, "checkpoint_every": 2}
            pretrain(small_plan(name, folder / "shards", folder / f"{name}-{ranks}", **sgd).to_dict())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_sample_shards(folder / "shards", 40)
    spawn(_train_in_shrinking_groups, {"folder": str(folder)}, WORLDS[0])
    return folder


def _flat(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {"losses": result["losses"], **result["gradients"], **result["state"]}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("ranks", [2, 4])
def test_more_ranks_equal_one(name: str, ranks: int, trained: Path) -> None:
    one = _flat(torch.load(trained / f"{name}-1-0.pt"))
    assert len(one) > 20
    for mine in range(ranks):
        more = _flat(torch.load(trained / f"{name}-{ranks}-{mine}.pt"))
        assert more.keys() == one.keys()
        wrong = [key for key in one if not torch.allclose(one[key].double(), more[key].double(), atol=1e-9, rtol=1e-7)]
        assert wrong == []
        assert torch.allclose(one["losses"], more["losses"], atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_loop_trains_the_same_weights(name: str, ranks: int, trained: Path) -> None:
    """In float32, with convolutions laid out channels last and the optimiser's fused kernel."""
    one, more = final_weights(trained / f"{name}-1"), final_weights(trained / f"{name}-{ranks}")
    assert more.keys() == one.keys()
    assert [key for key in one if not torch.allclose(one[key], more[key], atol=5e-5, rtol=1e-3)] == []


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_rank_holds_the_same(name: str, trained: Path) -> None:
    first = _flat(torch.load(trained / f"{name}-4-0.pt"))
    for mine in range(1, 4):
        other = _flat(torch.load(trained / f"{name}-4-{mine}.pt"))
        assert all(torch.equal(first[key], other[key]) for key in first if key != "losses")
