from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.training.objectives.small_models import small_objective, small_plan
from tests.training.samples import write_sample_shards
from training.backbones.building import build_backbone
from training.backbones.interface import Backbone
from training.checkpoints import CheckpointError, Checkpoints, TrainingState
from training.export import export, export_checkpoint
from training.objectives.base import Objective
from training.optimisers import make_optimiser

FILES = ["backbone.safetensors", "config.json", "heads.safetensors", "preprocessing.json"]


@pytest.fixture
def objective() -> Objective:
    return small_objective("mae")


def _states(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def test_timm_alone_loads_the_backbone(objective: Objective, tmp_path: Path) -> None:
    shards = write_sample_shards(tmp_path / "shards", 8)
    plan = small_plan("mae", shards, tmp_path / "work")
    export(tmp_path / "out", objective, plan, step=3, undecodable={7: "torn", 2: "no picture"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    model = timm.create_model(config["backbone"]["name"], num_classes=0, **config["backbone"]["kwargs"])
    model.load_state_dict(load_file(tmp_path / "out" / "backbone.safetensors"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), objective.eval().backbone(images).pooled)
    assert (config["finished_steps"], config["steps"]) == (3, 8)
    assert config["undecodable_rows"] == {"2": "no picture", "7": "torn"}
    assert config["shards"] == hashlib.sha256((shards / "index.json").read_bytes()).hexdigest()
    heads = load_file(tmp_path / "out" / "heads.safetensors")
    assert heads.keys() == {name for name in objective.state_dict() if name.startswith("decoder.")}


class _Taught(Objective):
    """What the export asks of an objective with a teacher."""

    def __init__(self, objective: Objective, choice: str) -> None:
        torch.nn.Module.__init__(self)
        self.backbone, self.decoder, self.choice = objective.backbone, objective.decoder, choice
        self.teacher = torch.nn.ModuleDict({"backbone": small_objective("mae", seed=1).backbone})
        self.register_buffer("centre", torch.ones(3))

    def export_backbone(self) -> Backbone:
        return self.backbone if self.choice == "student" else self.teacher["backbone"]  # type: ignore[return-value]


@pytest.mark.parametrize(("choice", "other"), [("student", "teacher.backbone"), ("teacher", "student")])
def test_the_objective_says_which_backbone_it_is(
    choice: str, other: str, objective: Objective, tmp_path: Path
) -> None:
    taught = _Taught(objective, choice)
    export(tmp_path, taught, small_plan("mae", tmp_path, tmp_path))
    states = _states(tmp_path)
    assert states.keys() == {"backbone.safetensors", f"{other}.safetensors", "heads.safetensors"}
    chosen = taught.export_backbone().model.state_dict()
    assert all(torch.equal(states["backbone.safetensors"][name], value) for name, value in chosen.items())
    assert states[f"{other}.safetensors"].keys() == chosen.keys()
    assert not torch.equal(states["backbone.safetensors"]["cls_token"], states[f"{other}.safetensors"]["cls_token"])
    assert "centre" in states["heads.safetensors"]
    assert not any("backbone" in name for name in states["heads.safetensors"])


def _saved(objective: Objective, plan: Any, steps: list[int]) -> None:
    state = TrainingState(objective, make_optimiser("adamw", objective, lr=0.1, weight_decay=0.0))
    with Checkpoints(plan.checkpoints, keep_last=5) as checkpoints:
        for step in steps:
            with torch.no_grad():
                objective.backbone.model.cls_token.fill_(step)
            state.values["plan"] = plan.to_dict()
            checkpoints.save(step, state)


def test_a_running_training_can_be_exported(objective: Objective, tmp_path: Path) -> None:
    plan = small_plan("mae", tmp_path / "shards", tmp_path / "work")
    _saved(objective, plan, [2, 4])
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "work").rglob("*"))
    assert export_checkpoint(tmp_path / "work", tmp_path / "newest") == 4
    assert export_checkpoint(tmp_path / "work", tmp_path / "older", step=2) == 2
    export(tmp_path / "direct", objective, plan, step=4)
    newest, older, direct = (_states(tmp_path / name) for name in ("newest", "older", "direct"))
    for name, state in direct.items():
        assert all(torch.equal(newest[name][key], value) for key, value in state.items())
    assert float(older["backbone.safetensors"]["cls_token"].mean()) == 2.0
    for file in ("config.json", "preprocessing.json"):
        assert (tmp_path / "newest" / file).read_text() == (tmp_path / "direct" / file).read_text()
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "work").rglob("*")) == before


def test_an_export_without_a_checkpoint_is_told(objective: Objective, tmp_path: Path) -> None:
    plan = small_plan("mae", tmp_path / "shards", tmp_path / "work")
    with pytest.raises(CheckpointError, match="not an intact checkpoint in"):
        export_checkpoint(tmp_path / "work", tmp_path / "out")
    _saved(objective, plan, [2])
    (plan.checkpoints / "step-000000002" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        export_checkpoint(tmp_path / "work", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_exported_twice_is_the_same(objective: Objective, tmp_path: Path) -> None:
    plan = small_plan("mae", tmp_path / "shards", tmp_path / "work")
    for name in ("first", "second"):
        export(tmp_path / name, objective, dataclasses.replace(plan))
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_a_rebuilt_backbone_takes_the_weights(objective: Objective, tmp_path: Path) -> None:
    plan = small_plan("mae", tmp_path / "shards", tmp_path / "work")
    export(tmp_path, objective, plan)
    rebuilt = build_backbone(json.loads((tmp_path / "config.json").read_text()))
    rebuilt.model.load_state_dict(load_file(tmp_path / "backbone.safetensors"))
    assert rebuilt.dim == json.loads((tmp_path / "config.json").read_text())["dim"]
