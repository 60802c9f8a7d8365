from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from stages.artifact import Artifact
from stages.base import Cancelled, StageContext, StageError
from stages.in_process import InProcess
from stages.pretrain import Pretrain, PretrainParams
from stages.pretrain.planning import make_plan
from tests.training.samples import write_sample_shards
from training.backbones.weights import load_backbone
from training.recipes import ViewRecipe
from training.shards import ShardReader

SMALL: dict[str, Any] = {
    "objective": {"name": "simclr", "projection": {"hidden": 32, "out": 16}},
    "backbone": "test_resnet",
    "batch": 16,
    "steps": 6,
    "threads": 1,
    "log_every": 2,
    "checkpoint_every": 2,
}


class Cpus(InProcess):
    """Without GPUs, also where there are some."""

    def gpus(self) -> int:
        return 0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("shards")
    write_sample_shards(folder / "shards", 40)
    return Artifact("shards", "shard", "key", "digest", folder, {})


def context(work: Path, shards: Artifact, **params: Any) -> tuple[StageContext[PretrainParams], list[dict[str, Any]]]:
    work.mkdir(parents=True, exist_ok=True)
    events: list[dict[str, Any]] = []
    return (
        StageContext(
            PretrainParams(**{**SMALL, **params}),
            work,
            {"shards": shards},
            Cpus(),
            emit=lambda kind, fields: events.append({"kind": kind, **fields}),
        ),
        events,
    )


def test_a_training_ends_with_a_backbone_that_timm_alone_loads(tmp_path: Path, shards: Artifact) -> None:
    ctx, events = context(tmp_path, shards)
    result = Pretrain(ctx.params).run(ctx)
    config = json.loads((tmp_path / "config.json").read_text())
    model = timm.create_model(config["backbone"]["name"], num_classes=0, **config["backbone"]["kwargs"]).eval()
    model.load_state_dict(load_file(tmp_path / "backbone.safetensors"))
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), load_backbone(tmp_path)(inputs).pooled)
    assert config["dim"] == model(inputs).shape[1]
    assert json.loads((tmp_path / "preprocessing.json").read_text())["size"] == 32
    assert result.digest is not None
    assert result.metrics["loss"] > 0
    assert not (tmp_path / "checkpoints").exists()
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "views.html",
        "training.html",
        "training.png",
    }
    assert (tmp_path / "report" / "views.html").read_text().count("<img ") == 8 * (1 + 2 * 3)  # of three epochs
    points = {event["step"]: event["values"] for event in events if event["kind"] == "metrics"}
    assert sorted(points) == [2, 4, 6]
    named = {"loss", "lr", "weight_decay", "images_per_s", "feature_std", "grad_norm", "memory_gb", "eta_s", "waiting"}
    assert named <= set(points[2])
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert any("no GPU here" in note for note in notes)
    assert any("CPU, 1 threads, fp32; ranks: 1 (alone); views are made on the device" in note for note in notes)


def test_execution_parameters_change_nothing(tmp_path: Path, shards: Artifact) -> None:
    first, _ = context(tmp_path / "a", shards)
    second, _ = context(tmp_path / "b", shards, checkpoint_every=5, log_every=1, cache_mb=0)
    other, _ = context(tmp_path / "c", shards, seed=1)
    digests = [Pretrain(ctx.params).run(ctx).digest for ctx in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]


def test_cancelling_stops_and_a_resume_ends_as_if_nothing_had_been(tmp_path: Path, shards: Artifact) -> None:
    whole, _ = context(tmp_path / "whole", shards, steps=40, checkpoint_every=10)
    expected = Pretrain(whole.params).run(whole).digest
    ctx, _ = context(tmp_path / "cut", shards, steps=40, checkpoint_every=10)
    ctx.cancel_flag = tmp_path / "cancel"
    ctx.emit = lambda kind, fields: ctx.cancel_flag.touch() if kind == "metrics" else None  # type: ignore[union-attr]
    with pytest.raises(Cancelled):
        Pretrain(ctx.params).run(ctx)
    ctx, _ = context(tmp_path / "cut", shards, steps=40, checkpoint_every=10)
    assert Pretrain(ctx.params).run(ctx).digest == expected


def test_multi_crop_views_reach_the_plan_and_the_report(tmp_path: Path, shards: Artifact) -> None:
    views = {"local_crops": 2, "solarise": [0.0, 0.2], "blur": [1.0, 0.1, 0.5]}
    ctx, _ = context(tmp_path, shards, views=views, backbone="test_vit", backbone_options={"patch_size": 8})
    assert ctx.params.views.local_scale_max == 0.4
    plan = make_plan(ctx, ShardReader(shards.path / "shards"), 1, use_gpu=False)
    recipe = ViewRecipe(**plan.views)
    assert (recipe.views, recipe.local_size, recipe.solarise) == (4, 16, [0.0, 0.2])
    Pretrain(ctx.params).run(ctx)
    assert (tmp_path / "report" / "views.html").read_text().count("<img ") == 8 * (1 + 4 * 3)  # of three epochs


def test_rates_follow_their_schedules(tmp_path: Path, shards: Artifact) -> None:
    course = {"course": "trapezoid", "cooldown": 0.5, "end": 0.1, "scale_with_batch": "linear"}
    ctx, events = context(
        tmp_path, shards, lr=0.016, lr_schedule=course, warmup=0.25, weight_decay_end=0.2, steps=8, log_every=1
    )
    Pretrain(ctx.params).run(ctx)
    points = [event["values"] for event in events if event["kind"] == "metrics"]
    peak = 0.016 * 16 / 256
    assert [point["lr"] / peak for point in points] == pytest.approx([0.5, 1, 1, 1, 1, 0.775, 0.55, 0.325])
    decays = [point["weight_decay"] for point in points]
    assert decays == sorted(decays)
    assert decays[0] == 0.05
    assert 0.19 < decays[-1] < 0.2


def test_the_best_checkpoint_is_exported_beside_the_last(tmp_path: Path, shards: Artifact) -> None:
    plain, _ = context(tmp_path / "plain", shards)
    expected = Pretrain(plain.params).run(plain).digest
    ctx, events = context(tmp_path / "best", shards, keep_best=True, best_by="loss")
    assert Pretrain(ctx.params).run(ctx).digest == expected
    losses = {event["step"]: event["values"]["loss"] for event in events if event["kind"] == "metrics"}
    config = json.loads((tmp_path / "best" / "best" / "config.json").read_text())
    assert config["finished_steps"] == min(losses, key=lambda step: losses[step])
    load_backbone(tmp_path / "best" / "best")


def test_training_goes_on_from_given_weights(tmp_path: Path, shards: Artifact) -> None:
    first, _ = context(tmp_path / "a", shards)
    digest = Pretrain(first.params).run(first).digest
    weights = tmp_path / "a" / "backbone.safetensors"
    second, _ = context(tmp_path / "b", shards, init_from=str(weights))
    stage = Pretrain(second.params)
    assert len(stage.externals()["init_from"]) == 64
    assert stage.run(second).digest != digest
    with pytest.raises(StageError, match="there is no file"):
        Pretrain(PretrainParams(**{**SMALL, "init_from": str(tmp_path / "none")})).externals()
    other, _ = context(tmp_path / "c", shards, init_from=str(weights), backbone="test_convnext")
    with pytest.raises(StageError, match="does not fit"):
        Pretrain(other.params).run(other)


def test_too_few_rows_say_which_batch_fits(tmp_path: Path, shards: Artifact) -> None:
    ctx, _ = context(tmp_path, shards, batch=64)
    with pytest.raises(StageError, match=r"hold 40 images.*set batch to 32"):
        Pretrain(ctx.params).run(ctx)


def test_a_loss_that_explodes_names_the_step(tmp_path: Path, shards: Artifact) -> None:
    ctx, _ = context(tmp_path, shards, lr=1e38, optimiser="sgd", warmup=0.0)
    with pytest.raises(StageError, match=r"at step \d+: try a lower lr.*on rank 0"):
        Pretrain(ctx.params).run(ctx)
    assert len((tmp_path / "nonfinite.jsonl").read_text().splitlines()) == 3


def test_a_wrong_argument_of_the_backbone_is_told(tmp_path: Path, shards: Artifact) -> None:
    ctx, _ = context(tmp_path, shards, backbone="test_convnext", backbone_options={"no_such_option": 1})
    with pytest.raises(StageError, match="no_such_option"):
        Pretrain(ctx.params).run(ctx)


def test_parameters_enter_the_key_in_full() -> None:
    short, full = (
        PretrainParams(),
        PretrainParams(objective={"name": "simclr", "temperature": 0.1}, views={"flip": 0.5}),
    )
    assert short.model_dump() == full.model_dump()
    assert short.objective["projection"]["hidden"] == 2048
    assert short.views.scale_min == 0.08
    assert PretrainParams(**json.loads(short.model_dump_json())) == short
    assert PretrainParams(objective="mae", backbone="vit_tiny_patch16_224").views.scale_min == 0.2
    assert Pretrain(short).code_modules() == ("training.objectives.simclr",)


def test_views_go_by_name() -> None:
    named = PretrainParams(objective="simclr", views="multicrop").views
    assert (named.recipe, named.crops, named.local_crops, named.jitter) == (None, 2, 6, 0.8)
    assert PretrainParams(objective="simclr", views=named.model_dump()).views == named
    changed = PretrainParams(objective="simclr", views={"recipe": "multicrop", "local_crops": 2}).views
    assert (changed.local_crops, changed.local_scale_max) == (2, 0.32)
    assert PretrainParams(objective="byol", views="crop_only").views.resize is False


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"objective": "simclrr"}, "did you mean simclr"),
        ({"objective": {"name": "simclr", "temperature": -1}}, "temperature: -1 is not a number > 0"),
        ({"objective": 3}, "is a name, or a mapping"),
        ({"backbone": "resnet_18"}, "did you mean.*resnet18"),
        ({"objective": "mae", "backbone": "resnet18"}, "needs a plain vision transformer, not 'resnet18'"),
        ({"backbone_options": {"channel": [8, 8, 8, 8]}}, "backbone_options.channel does not fit.*mean channels"),
        ({"steps": 5, "epochs": 5}, "steps or epochs, not both"),
        ({"backbone": "vit_small_patch16_224", "image_size": 40}, "do not tile"),
        ({"workers": 3}, "does not divide among 3 workers"),
        ({"workers": 64, "accumulate": 8}, "in 8 parts does not divide among 64 workers"),
        ({"accumulate": 7}, "does not divide into 7 parts"),
        ({"keep_best": True}, "needs evaluate_every"),
        ({"views": {"blur": [0.1, 1.5]}}, "views.blur"),
        ({"views": {"local_scale_min": 0.9, "local_scale_max": 0.5}}, "local_scale_min .* above local_scale_max"),
        ({"views": {"scale_min": 0.9, "scale_max": 0.5}}, "scale_min .* above scale_max"),
        ({"objective": "mae", "backbone": "test_vit", "views": "multicrop"}, "takes 1 crop of an image.*because"),
        ({"views": {"crops": 1}}, "takes 2 or more crops"),
        ({"views": "multicrops"}, "multicrop"),
        ({"views": "crop_only", "source_size": 16}, "source_size .16. must not be less"),
        ({"optimizer": "adamw"}, "optimizer"),
    ],
)
def test_mistakes_are_found_before_anything_runs(params: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        PretrainParams(**params)


def test_validation_is_light() -> None:
    code = (
        "import sys; from stages.pretrain import PretrainParams; PretrainParams(); "
        "print([m for m in ('torch', 'timm', 'numpy', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
