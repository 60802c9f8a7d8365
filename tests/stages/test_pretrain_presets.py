from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from pipelines.spec import load_spec
from stages.base import StageContext
from stages.in_process import InProcess
from stages.pretrain import PretrainParams
from stages.pretrain.planning import make_plan
from tests.training.samples import write_sample_shards
from training.history import read_history
from training.loop import pretrain
from training.objectives import catalogue
from training.plan import PretrainingPlan
from training.shards import ShardReader

NAMES = catalogue.names()
HIDING = [name for name in NAMES if catalogue.describe(name)["backbone"] == "vit"] + ["weighted_sum"]


def small(objective: Any, **params: Any) -> PretrainParams:
    return PretrainParams(preset="small", objective=objective, **params)


def plan_of(params: PretrainParams, shards: Path, work: Path) -> PretrainingPlan:
    work.mkdir(parents=True, exist_ok=True)
    ctx: StageContext[PretrainParams] = StageContext(params, work, {}, InProcess())
    return make_plan(ctx, ShardReader(shards), 1, use_gpu=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_shards(tmp_path_factory.mktemp("shards"), 40)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_recipe_is_below_what_is_given_and_above_the_paper(name: str) -> None:
    recipe = catalogue.describe(name)["small"]
    params = small(name)
    assert params.objective == catalogue.resolve({"name": name, **recipe["objective"]}, small=True)
    assert {key: getattr(params, key) for key in recipe["training"]} == recipe["training"]
    views = params.views.model_dump()
    assert {key: views[key] for key in recipe["views"]} == recipe["views"]
    assert PretrainParams.model_validate(params.model_dump()) == params
    given = small(name, batch=32, lr=0.5, views={"flip": 0.25, "scale_min": 0.7})
    assert (given.batch, given.lr, given.views.flip, given.views.scale_min) == (32, 0.5, 0.25, 0.7)


def test_the_rest_of_a_part_comes_from_the_recipe() -> None:
    wide = small({"name": "dino", "head": {"prototypes": 77}}).objective["head"]
    assert wide == {**small("dino").objective["head"], "prototypes": 77}
    both = [{"name": "simclr", "weight": 2}, {"name": "mae"}]
    terms = small({"name": "weighted_sum", "terms": both}).objective["terms"]
    assert terms[0] == {**small("simclr").objective, "weight": 2.0}
    assert terms[1]["decoder"] == small("mae").objective["decoder"]
    assert small("simclr", epochs=3).steps is None
    assert small("dino", views="multicrop").views.local_crops == 6


def test_without_the_preset_the_paper_holds() -> None:
    assert PretrainParams(objective="dino").objective["head"]["prototypes"] == 65536
    assert PretrainParams(objective="simclr").views.scale_min == 0.08


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_is_found_for_every_objective(name: str) -> None:
    assert PretrainParams(objective=name).backbone == ("vit_tiny_patch16_224" if name in HIDING else "resnet18")
    assert small(name).backbone == PretrainParams(objective=name).backbone


@pytest.mark.parametrize(("side", "patch", "patch_small"), [(32, 4, 8), (64, 8, 8), (96, 12, 12), (224, 16, 16)])
def test_patches_tile_the_image(side: int, patch: int, patch_small: int) -> None:
    assert PretrainParams(objective="mae", image_size=side).backbone_options == {"patch_size": patch}
    assert small("mae", image_size=side).backbone_options["patch_size"] == patch_small


def test_options_that_are_given_go_before_those_of_auto() -> None:
    whole = small("mae").backbone_options
    assert small("mae", backbone_options={"depth": 2}).backbone_options == {**whole, "depth": 2}
    assert small("simclr", backbone="resnet34").backbone_options == {}
    with pytest.raises(ValidationError, match=r"backbone_options\.channels does not fit backbone 'vit_tiny"):
        small("mae", backbone_options={"channels": [8, 8, 8, 8]})
    with pytest.raises(ValidationError, match="did you mean depth"):
        small("mae", backbone_options={"dept": 2})


def test_a_vision_transformer_starts_as_the_paper_has_it_unless_told(shards: Path, tmp_path: Path) -> None:
    def first(objective: Any, **params: Any) -> str | None:
        return plan_of(small(objective, batch=8, **params), shards, tmp_path).backbone.get("first_weights")

    assert [first(name) for name in ("mae", "simmim", "moco_v3")] == ["mae", None, None]
    assert (first("ijepa", first_weights="auto"), first("ijepa")) == ("ijepa", "mae")  # the small recipe names another
    assert first("moco_v3", backbone="vit_tiny_patch16_224", backbone_options={"patch_size": 8}) == "moco_v3"
    assert first("weighted_sum") == "mae"  # its first term has none
    assert first("mae", first_weights="library") is None
    assert first("simmim", first_weights="mae") == "mae"
    with pytest.raises(ValidationError, match="first_weights"):
        small("mae", first_weights="xavier")


@pytest.mark.parametrize("name", NAMES)
def test_the_quickstart_takes_every_objective(name: str) -> None:
    params = load_spec("quickstart", [f"pretrain.objective={name}"]).stages["pretrain"].stage.params
    assert cast(PretrainParams, params).objective["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_the_first_steps_of_every_small_recipe_run(name: str, shards: Path, tmp_path: Path) -> None:
    narrow = {"depth": 1} if name in HIDING else {"channels": [8, 8, 8, 16]}
    params = small(name, steps=2, batch=8, backbone_options=narrow, threads=1, log_every=1, augment_on="device")
    pretrain(plan_of(params, shards, tmp_path).to_dict())
    assert [line["step"] for line in read_history(tmp_path / "history.jsonl")] == [1, 2]
    assert (tmp_path / "backbone.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_small_recipe_ends_without_collapse(name: str, tmp_path: Path) -> None:
    shards = write_sample_shards(tmp_path / "shards", 256)
    params = small(name, threads=1, augment_on="device")
    pretrain(plan_of(params, shards, tmp_path / "work").to_dict())
    last = read_history(tmp_path / "work" / "history.jsonl")[-1]
    assert last["step"] == params.steps
    assert last["feature_std"] > 0.1
