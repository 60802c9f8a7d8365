"""Trainings that start from weights: of a file, of a checkpoint, of another stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from stages.artifact import Artifact
from stages.base import StageContext, StageError
from stages.in_process import InProcess
from stages.pretrain import Pretrain, PretrainParams
from tests.training.samples import write_sample_shards

SMALL: dict[str, Any] = {
    "objective": {"name": "mae", "decoder": {"dim": 32, "depth": 1, "heads": 2}},
    "backbone": "test_vit",
    "backbone_options": {"patch_size": 8},
    "batch": 16,
    "steps": 2,
    "threads": 1,
}


class Cpus(InProcess):
    def gpus(self) -> int:
        return 0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("shards")
    write_sample_shards(folder / "shards", 24)
    return Artifact("shards", "shard", "key", "digest", folder, {})


def trained(work: Path, shards: Artifact, init: Artifact | None = None, **params: Any) -> Artifact:
    work.mkdir()
    given = PretrainParams(**{**SMALL, **params})
    inputs = {"shards": shards} | ({} if init is None else {"init": init})
    result = Pretrain(given).run(StageContext(given, work, inputs, Cpus()))
    assert result.digest is not None
    return Artifact("checkpoint", "pretrain", "key", result.digest, work, {})


def test_a_training_starts_from_anothers_model(tmp_path: Path, shards: Artifact) -> None:
    first = trained(tmp_path / "first", shards)
    options = {"patch_size": 4, "token_boost": True}
    chained = trained(tmp_path / "chained", shards, first, backbone_options=options, lr=1e-30)
    named = trained(tmp_path / "named", shards, backbone_options=options, lr=1e-30, init_from=str(first.path))
    alone = trained(tmp_path / "alone", shards, backbone_options=options, lr=1e-30)
    assert chained.digest == named.digest != alone.digest
    before, after = (load_file(a.path / "backbone.safetensors") for a in (first, chained))
    assert after["patch_embed.proj.weight"].shape[-1] == 4
    assert (before["norm.weight"] == after["norm.weight"]).all()
    heads = load_file(chained.path / "heads.safetensors")
    assert any(name.startswith("backbone.boosts.") for name in heads)
    assert not any("boost" in name for name in after)
    assert "token_boost" in (chained.path / "history.jsonl").read_text()
    assert json.loads((chained.path / "config.json").read_text())["backbone"]["token_boost"]["places"] is True
    with pytest.raises(StageError, match="leave one out"):
        trained(tmp_path / "both", shards, first, init_from=str(first.path))


def test_the_content_of_the_start_is_in_the_key_and_its_path_is_not(tmp_path: Path, shards: Artifact) -> None:
    first = trained(tmp_path / "first", shards)
    (tmp_path / "moved").mkdir()
    for name in ("backbone.safetensors", "heads.safetensors"):
        (tmp_path / "moved" / name).write_bytes((first.path / name).read_bytes())
    stages = [Pretrain(PretrainParams(**SMALL, init_from=str(path))) for path in (first.path, tmp_path / "moved")]
    assert stages[0].externals() == stages[1].externals()
    assert Pretrain.Params.model_fields["init_from"].json_schema_extra["key"] is False  # type: ignore[index,call-overload]
    with pytest.raises(StageError, match="init_from: there is no file"):
        Pretrain(PretrainParams(**SMALL, init_from=str(tmp_path / "none"))).externals()


def test_names_and_patches_are_checked_with_the_spec() -> None:
    tower = {"backbone": "open_clip:ViT-B-32", "backbone_options": {}}
    assert PretrainParams(**{**SMALL, **tower, "image_size": 64}).backbone == "open_clip:ViT-B-32"
    with pytest.raises(ValidationError, match="patches of 32 px do not tile images of 48 px"):
        PretrainParams(**{**SMALL, **tower, "image_size": 48})
    with pytest.raises(ValidationError, match="open_clip:ViT-B-32"):
        PretrainParams(**{**SMALL, "backbone": "open_clip:ViT-B32"})
    with pytest.raises(ValidationError, match="needs a plain vision transformer"):
        PretrainParams(**{**SMALL, "backbone": "open_clip:RN50"})
