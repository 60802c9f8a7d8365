"""State on two ranks, sharded by FSDP2 or replicated: steps, teachers and checkpoints are those of one rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.training.checkpoints.trainings import Network, content, learn, same, training
from training import ema
from training.checkpoints import Checkpoints, Restored, TrainingState, committed_steps
from training.optimisers import OPTIMISERS, clip_gradients, clipped_parts, make_optimiser
from training.process_group import rank, spawn

INPUTS = torch.randn(16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _sharded(module: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(module.backbone["blocks"][0], mesh=mesh)
    return fully_shard(module, mesh=mesh)


def _whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: (v.full_tensor() if isinstance(v, DTensor) else v).detach().clone() for n, v in tensors.items()}


def _steps(module: nn.Module, name: str) -> dict[str, Tensor]:
    optimiser = make_optimiser(name, module, lr=0.01, weight_decay=0.05)
    for _ in range(2):
        module(INPUTS).backward()
        norm = clip_gradients(clipped_parts(module), 0.1)["total"]
        optimiser.step()
        optimiser.zero_grad()
    return {"norm": norm, **_whole(module.state_dict())}


def _sharded_training(seed: int) -> TrainingState:
    model = _sharded(Network(seed))
    return TrainingState(model, make_optimiser("adamw", model, lr=0.01, weight_decay=0.05))


def _on_two_ranks(config: dict[str, Any]) -> None:
    folder, found = Path(config["folder"]), {}
    found["steps"] = {name: _steps(_sharded(Network(0).double()), name) for name in OPTIMISERS}
    teacher = _sharded(Network(1))
    ema.update(teacher, _sharded(Network(2)), 0.9)
    found["teacher"] = _whole(teacher.state_dict())

    state = _sharded_training(3)
    learn(state, 0, 2)
    with Checkpoints(folder / "sharded") as checkpoints:
        checkpoints.save(2, state)
    found["sharded"] = _whole(state.collect())

    with Checkpoints(folder / "one") as checkpoints:
        state = _sharded_training(4)
        assert checkpoints.restore(state) == Restored(5)
    found["from one"] = _whole(state.collect())

    state = training(5)
    with Checkpoints(folder / "replicated") as checkpoints:
        for step in (1, 2):
            learn(state, step - 1, step)
            checkpoints.save(step, state)
            if step == 1:
                found["replicated"] = content(state)
        checkpoints.wait()
        if rank() == 1:
            (folder / "replicated" / "step-000000002" / "__1_0.distcp").write_bytes(b"torn")
        dist.barrier()
        restored = checkpoints.restore(training(6))
        assert restored is not None and restored.step == 1 and "__1_0.distcp is damaged" in restored.skipped[0]
    if rank() == 0:
        torch.save(found, folder / "found.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    state = training(7)
    learn(state, 0, 5)
    with Checkpoints(folder / "one") as checkpoints:
        checkpoints.save(5, state)
    spawn(_on_two_ranks, {"folder": str(folder)}, 2)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("name", OPTIMISERS)
def test_shards_step_as_the_whole_does(name: str, found: dict[str, Any]) -> None:
    expected = _steps(Network(0).double(), name)
    assert found["steps"][name].keys() == expected.keys()
    tolerance = 1e-3 if name == "muon" else 1e-9  # muon rounds to bfloat16
    for key, value in expected.items():
        assert torch.allclose(found["steps"][name][key], value, rtol=tolerance, atol=tolerance), key


def test_shards_of_a_teacher_follow_as_the_whole_does(found: dict[str, Any]) -> None:
    teacher = Network(1)
    ema.update(teacher, Network(2), 0.9)
    assert same(found["teacher"], dict(teacher.state_dict()))


@pytest.mark.parametrize(("kind", "step"), [("sharded", 2), ("replicated", 1)])
def test_one_rank_reads_what_two_wrote(kind: str, step: int, folder: Path, found: dict[str, Any]) -> None:
    state = training(9)
    with Checkpoints(folder / kind) as checkpoints:
        restored = checkpoints.restore(state)
    assert restored is not None and restored.step == step
    assert same(content(state), found[kind])


def test_two_ranks_read_what_one_wrote(folder: Path, found: dict[str, Any]) -> None:
    state = training(9)
    with Checkpoints(folder / "one") as checkpoints:
        checkpoints.restore(state)
    assert same(content(state), found["from one"])


def test_ranks_share_the_writing_of_replicas(folder: Path) -> None:
    assert committed_steps(folder / "replicated") == [1, 2]
    sizes = [(folder / "replicated" / "step-000000001" / f"__{r}_0.distcp").stat().st_size for r in (0, 1)]
    assert min(sizes) > 0.6 * max(sizes)
