"""The projector of a checkpoint is the one that was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.training.evaluation.small_vit import small_vit
from training.evaluation.projector import load_projector, projected
from training.objectives import catalogue
from training.objectives.base import create

SMALL: dict = {
    "simclr": {"projection": {"hidden": 16, "out": 8}},
    "moco_v3": {"projection": {"hidden": 16, "out": 8}, "prediction": {"hidden": 16, "out": 8}},
}


def write_heads(folder: Path, spec: dict, *, student: bool = False):
    objective = create(spec, small_vit()).eval()
    heads = {name: value for name, value in objective.state_dict().items() if "backbone." not in name}
    save_file({name: value.contiguous().clone() for name, value in heads.items()}, folder / "heads.safetensors")
    (folder / "config.json").write_text(json.dumps({"objective": catalogue.resolve(spec)}))
    if student:
        (folder / "student.safetensors").touch()
    return objective


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
def test_projector_of_the_exported_backbone(tmp_path, name):
    torch.manual_seed(0)
    objective = write_heads(tmp_path, {"name": name, **SMALL[name]})
    features = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
    found = projected(load_projector(tmp_path, 24), features, batch=2)
    with torch.no_grad():
        np.testing.assert_allclose(found, objective.projector(torch.from_numpy(features)), atol=1e-6)
    assert found.shape == (5, 8)


def test_the_teachers_where_the_teacher_is_exported(tmp_path):
    torch.manual_seed(0)
    objective = write_heads(tmp_path, {"name": "moco_v3", **SMALL["moco_v3"]}, student=True)
    with torch.no_grad():
        objective.teacher["projector"].stack[0].weight.mul_(2)
    heads = {n: v.contiguous().clone() for n, v in objective.state_dict().items() if "backbone." not in n}
    save_file(heads, tmp_path / "heads.safetensors")
    found = load_projector(tmp_path, 24)
    assert torch.equal(found.stack[0].weight, objective.teacher["projector"].stack[0].weight)


def test_none_where_there_is_none(tmp_path):
    write_heads(tmp_path, {"name": "mae"})
    assert load_projector(tmp_path, 24) is None
    (tmp_path / "heads.safetensors").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"objective": catalogue.resolve("simclr")}))
    assert load_projector(tmp_path, 24) is None
