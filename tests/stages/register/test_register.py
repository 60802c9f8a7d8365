"""The register stage: what it writes loads where curatrain is not installed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.base import StageError
from stages.evaluate import Evaluate
from stages.register import Register
from tests.stages.pool import artifact_of, table_artifact, write_table_artifact
from tests.stages.probe_inputs import CONFIG, with_manifest, write_checkpoint, write_pool

PARAMS = {"name": "emoji-backbone", "description": "Trained on drawings."}

LOADER = """
import importlib.abc, json, sys
import numpy as np

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"stages", "training", "curation", "pipelines"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Hidden())
model_path, images_path, out_path = sys.argv[1:]
import mlflow, pandas
model = mlflow.pyfunc.load_model(model_path)
images = json.load(open(images_path))
import base64
encoded = [base64.b64decode(text) for text in images]
results = {
    "bytes": model.predict(pandas.DataFrame({"image": encoded})),
    "base64": model.predict(pandas.DataFrame({"image": images})),
    "dict": model.predict({"image": encoded}),
}
pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
results["pixels"] = model.predict(pandas.DataFrame({"image": list(pixels)}))
results["batch"] = model.unwrap_python_model().predict(None, pixels)
from fastapi.testclient import TestClient
from mlflow.pyfunc.scoring_server import init

body = {"dataframe_split": {"columns": ["image"], "data": [[text] for text in images]}}
answer = TestClient(init(model)).post("/invocations", json=body)
results["served"] = np.array(answer.json()["predictions"], np.float32)
np.savez(out_path, **results)
assert not {"stages", "training", "curation", "pipelines"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A store with images -> selection -> shards -> checkpoint -> metrics, and the model made of it."""
    store = tmp_path_factory.mktemp("store") / "objects"
    images, selection = write_pool(tmp_path_factory.mktemp("pool"), 120)
    images = _committed(store, images, "ingest")
    selection = _committed(store, selection, "curate", images=images)
    shards = _committed(store, _folder(tmp_path_factory, "shards"), "shard", images=images, selection=selection)
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("trained") / "checkpoint")
    checkpoint = _committed(store, checkpoint, "pretrain", shards=shards)
    inputs = {"checkpoint": checkpoint, "images": images, "selection": selection}
    params = {"protocol": "curatrain-v1", "max_per_class": 10, "min_class_size": 2, "k_grid": (5,)}
    metrics = artifact_of(Evaluate, params, tmp_path_factory.mktemp("evaluated") / "metrics", inputs)
    metrics = _committed(store, metrics, "evaluate", **inputs)
    work = tmp_path_factory.mktemp("registered") / "model"
    start = time.monotonic()
    model = artifact_of(Register, PARAMS, work, {"checkpoint": checkpoint, "metrics": metrics})
    return {"model": model, "seconds": time.monotonic() - start, **inputs, "shards": shards, "metrics": metrics}


def _folder(factory, kind):
    return table_artifact(kind, factory.mktemp(kind))


def _committed(store, artifact, stage, **inputs):
    """The artifact at its place in a store, with a manifest that names its inputs."""
    target = store / stage / artifact.key
    target.parent.mkdir(parents=True, exist_ok=True)
    artifact.path.rename(target)
    parents = [{"name": n, "stage": a.stage, "key": a.key, "digest": a.digest} for n, a in inputs.items()]
    manifest = {"kind": artifact.kind, "inputs": parents, "digest": artifact.digest, "seconds": 1.5}
    return with_manifest(replace(artifact, stage=stage, path=target), **manifest)


@pytest.fixture(scope="module")
def loaded(registered, tmp_path_factory):
    """Embeddings from a fresh process that cannot import curatrain."""
    folder = tmp_path_factory.mktemp("elsewhere")
    table = registered["images"].table(["image_id", "bytes"]).slice(0, 6)
    (folder / "load.py").write_text(LOADER)
    (folder / "images.json").write_text(json.dumps([base64.b64encode(b).decode() for b in table["bytes"].to_pylist()]))
    command = [sys.executable, "-I", "load.py", str(registered["model"].path / "model"), "images.json", "out.npz"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "type hint" not in done.stderr.lower()
    return table["image_id"].to_pylist(), dict(np.load(folder / "out.npz"))


def test_pyfunc_loads_without_curatrain_and_gives_the_features_that_were_evaluated(registered, loaded, tmp_path):
    from stages.evaluate import EvaluateParams
    from stages.evaluate.features import compute_features
    from tests.stages.pool import context_of

    ids, found = loaded
    inputs = {name: registered[name] for name in ("checkpoint", "images", "selection")}
    context = context_of(Evaluate(EvaluateParams(batch=4)), tmp_path, inputs)
    expected = compute_features(context, ids, 32)[0]["trained"]
    assert found["bytes"].dtype == np.float32
    for way in ("bytes", "base64", "dict", "served"):
        np.testing.assert_allclose(found[way], expected, atol=1e-5)
    assert np.abs(expected - expected.mean(axis=0)).max() > 0.01


def test_pixels_go_in_as_a_column_or_as_one_batch(loaded):
    _, found = loaded
    assert found["pixels"].shape == (3, CONFIG["dim"])
    np.testing.assert_array_equal(found["pixels"], found["batch"])


def test_weights_load_in_plain_timm(registered):
    import timm
    from safetensors.torch import load_file

    from tests.stages.probe_inputs import backbone_of

    model = timm.create_model(CONFIG["backbone"]["name"], pretrained=False, num_classes=0)
    model.load_state_dict(load_file(registered["model"].path / "backbone.safetensors"))
    expected = backbone_of(11).state_dict()
    assert all((value == expected[name]).all() for name, value in model.state_dict().items())


def test_signature_and_requirements_are_in_the_model(registered):
    import mlflow.models

    model = mlflow.models.Model.load(registered["model"].path / "model")
    assert model.signature.inputs.input_names() == ["image"]
    assert model.signature.outputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, CONFIG["dim"])
    requirements = (registered["model"].path / "model" / "requirements.txt").read_text().split()
    assert any(line.startswith("timm==") for line in requirements)
    assert not any("+" in line for line in requirements)
    described = (registered["model"].path / "model" / "MLmodel").read_text()
    assert str(registered["model"].path) not in described
    assert str(Path(__file__).parents[3]) not in described


def test_registration_names_every_ancestor(registered):
    document = json.loads((registered["model"].path / "registration.json").read_text())
    assert (document["name"], document["alias"]) == ("emoji-backbone", "candidate")
    for stage, name in (
        ("ingest", "images"),
        ("curate", "selection"),
        ("shard", "shards"),
        ("pretrain", "checkpoint"),
    ):
        assert document["tags"][f"lineage.{stage}"] == f"{registered[name].key}:{registered[name].digest}"
    assert document["tags"]["protocol"] == "curatrain-v1"
    assert document["metrics"]["rankme_trained"] == registered["metrics"].manifest.get(
        "metrics", document["metrics"]
    ).get("rankme_trained")
    assert document["params"]["objective.name"] == "simclr"


def test_card_tells_data_results_limits_costs_lineage_and_how_to_load(registered):
    card = (registered["model"].path / "README.md").read_text()
    roles = registered["selection"].table(["role"])["role"].to_pylist()
    assert f"{roles.count('train')} of {len(roles)} images trained this model" in card
    assert f"| dropped | over_quota | {roles.count('dropped')} |" in card
    assert f"| licence | not stated | {roles.count('train')} |" in card
    assert f"Of all {roles.count('train')} images that trained it no licence is known" in card
    metrics = json.loads((registered["metrics"].path / "metrics.json").read_text())["metrics"]
    cell = "{knn_trained:.3f} ({knn_trained_lo:.3f} .. {knn_trained_hi:.3f})".format(**metrics)
    assert f"| weighted kNN | {cell} |" in card
    assert "| pretrain | 1.5 |" in card
    assert registered["checkpoint"].key[:16] in card
    weights = hashlib.sha256((registered["model"].path / "backbone.safetensors").read_bytes()).hexdigest()
    assert weights in card
    assert 'timm.create_model("test_resnet", pretrained=False, num_classes=0)' in card
    assert card == (registered["model"].path / "report" / "model_card.md").read_text()


def test_the_cards_python_runs_and_gives_the_same_features(registered, tmp_path, monkeypatch):
    import torch
    from PIL import Image

    for name in ("backbone.safetensors",):
        shutil.copy(registered["model"].path / name, tmp_path)
    smooth = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(smooth).resize((90, 70), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    card = (registered["model"].path / "README.md").read_text()
    blocks = [part.partition("```")[0] for part in card.split("```python\n")[1:]]
    names: dict[str, object] = {}
    for block in blocks[:2]:
        exec(block, names)
    settings = json.loads((registered["model"].path / "preprocessing.json").read_text())
    resized = picture.resize((settings["size"],) * 2, Image.Resampling.BICUBIC)
    normal = (np.asarray(resized, np.float32) / 255 - settings["mean"]) / settings["std"]
    with torch.inference_mode():
        expected = names["model"](torch.from_numpy(normal.transpose(2, 0, 1)[None].astype(np.float32)))
    found = names["features"]
    assert found.shape == (1, CONFIG["dim"])
    assert torch.nn.functional.cosine_similarity(found, expected).item() > 0.999


def test_the_data_of_a_card_is_what_trained_and_not_the_evaluation_sets(tmp_path):
    from stages.register.lineage import ancestors
    from stages.register.provenance import data_counts

    store = tmp_path / "objects"
    pools = {}
    for name, host in (("pool", "good.example"), ("test", "other.example")):
        images, selection = write_pool(tmp_path / name, 30 if name == "pool" else 12)
        ids = images.table(["image_id"])["image_id"].to_pylist()
        rows = [
            {"source": name, "url": f"http://{host}/{n}", "host": host, "status": "ok", "sha256": image_id}
            for n, image_id in enumerate(ids)
        ]
        fetches = write_table_artifact("fetches", tmp_path / f"fetches-{name}", rows)
        fetches = _committed(store, replace(fetches, key=f"c{name}"), "crawl")
        images = _committed(store, replace(images, key=f"i{name}"), "ingest", fetches=fetches)
        pools[name] = (images, selection)
    images, selection = pools["pool"]
    selection = _committed(store, selection, "curate", images=images, test=pools["test"][0])
    shards = table_artifact("shards", tmp_path / "shards-of-it")
    shards.path.mkdir()
    shards = _committed(store, shards, "shard", images=images, selection=selection)
    counts = data_counts(ancestors([shards]))
    trained = selection.table(["role"])["role"].to_pylist().count("train")
    assert counts.hosts == {("good.example",): trained}
    assert counts.licences == {("",): trained}
    assert counts.fetched == 30 and sum(counts.sources.values()) == 30


def test_digest_is_of_content_alone(registered, tmp_path):
    inputs = {name: registered[name] for name in ("checkpoint", "metrics")}
    again = artifact_of(Register, PARAMS, tmp_path / "again", inputs)
    other = artifact_of(Register, {**PARAMS, "alias": "nightly"}, tmp_path / "other", inputs)
    assert again.digest == registered["model"].digest
    assert other.digest != again.digest


def test_packing_is_quick(registered):
    assert registered["seconds"] < 15


def test_missing_file_says_which(registered, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (checkpoint.path / "config.json").unlink()
    with pytest.raises(StageError, match=r"config\.json"):
        artifact_of(Register, PARAMS, tmp_path / "work", {"checkpoint": checkpoint, "metrics": registered["metrics"]})


def test_parents_that_are_gone_leave_the_chain_readable(tmp_path):
    from stages.register.lineage import ancestors

    checkpoint = write_checkpoint(tmp_path / "objects" / "pretrain" / "k1")
    checkpoint = with_manifest(
        checkpoint, inputs=[{"name": "shards", "stage": "shard", "key": "k0", "digest": "d0"}], digest="d1"
    )
    chain = ancestors([checkpoint])
    assert [(a.key, a.digest) for a in chain] == [("k0", "d0"), (checkpoint.key, checkpoint.digest)]
    assert not Path(chain[0].path).exists()


def test_costs_are_those_of_the_way_to_the_weights(tmp_path):
    """A crawl that was built again with the same content stands in the lineage of the evaluation alone."""
    from stages.register.card import _costs
    from stages.register.lineage import Ancestor

    def made(type_name, key, kind, *parents):
        return Ancestor(type_name, key, key, tmp_path, parents, {"kind": kind, "seconds": 10.0, "rows_out": 1000})

    chain = [
        made("crawl", "old", "fetches"),
        made("crawl", "new", "fetches"),
        made("shard", "s", "shards", ("crawl", "old")),
        made("pretrain", "p", "checkpoint", ("shard", "s")),
        made("evaluate", "e", "metrics", ("pretrain", "p"), ("crawl", "new")),
    ]
    table = _costs(chain)
    assert table.count("| crawl | 10.0 |  | 1,000 |") == 1 and "| all | 40.0 |" in table


def test_the_card_shows_the_named_figures_of_every_set():
    from stages.register.card_results import limits, results
    from stages.register.provenance import DataCounts

    split = {"queries": 40, "bank": 80, "digests": {"bank": "b" * 64, "queries": "q" * 64}, "note": ""}
    metrics = {"knn_trained": 0.5, "knn_trained_lo": 0.4, "knn_trained_hi": 0.6, "knn_trained_balanced": 0.45}
    metrics |= {"knn_untrained": 0.3, "knn_untrained_lo": 0.2, "knn_untrained_hi": 0.4, "rankme_trained": 12.345}
    gain = {"knn_gain_over_untrained": 0.2, "knn_gain_over_untrained_lo": -0.01, "knn_gain_over_untrained_hi": 0.4}
    metrics |= gain | {"5_shot_trained": 0.4, "5_shot_trained_lo": 0.3, "5_shot_trained_hi": 0.5}
    metrics |= {"knn_10_trained": 0.45, "map_trained": 0.2, "corrupted_quick_trained": 0.3}
    birds = {f"birds/{name}": value for name, value in metrics.items()} | {"birds/unguarded": 1.0}
    evaluation = {"protocol": {"id": "curatrain-v2"}, "metrics": metrics | birds, "split": split}
    evaluation["sets"] = {"birds": {"split": split, "unguarded": "the guard has not seen it"}}
    text = results(evaluation)
    assert "| figure | trained | untrained | gain over untrained |" in text
    row = "| weighted kNN | 0.500 (0.400 .. 0.600) | 0.300 (0.200 .. 0.400) | 0.200 (-0.010 .. 0.400) |"
    assert text.count(row) == 2 and text.count("| 5 labels a class | 0.400 (0.300 .. 0.500) |") == 2
    assert text.count("| RankMe | 12.35 |") == 2 and "balanced" not in text and "birds/" not in text
    assert text.index("weighted kNN") < text.index("5 labels a class") < text.index("retrieval, mAP")
    assert text.count("| accuracy on corrupted images (quick) | 0.3 |") == 2 and "knn 10" not in text
    assert text.count("Further figures in the report of the evaluation: 1.") == 2
    assert "**Unguarded**: the guard has not seen it" in text
    counts = DataCounts({}, 0, {}, {}, {}, {("",): 3, ("CC0",): 5}, {})
    told = limits({"image_size": 32, "seed": 1}, evaluation, counts)
    assert "not shown to be better than the same network untrained" in told and "Of 3 of 8 images" in told
