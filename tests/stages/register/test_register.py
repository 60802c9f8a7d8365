"""The register stage: what it writes loads where curatrain is not installed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.base import StageError
from stages.evaluate import Evaluate
from stages.register import Register
from tests.stages.pool import artifact_of
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
    params = {"max_per_class": 10, "min_class_size": 2, "k_grid": (5,)}
    metrics = artifact_of(Evaluate, params, tmp_path_factory.mktemp("evaluated") / "metrics", inputs)
    metrics = _committed(store, metrics, "evaluate", **inputs)
    work = tmp_path_factory.mktemp("registered") / "model"
    start = time.monotonic()
    model = artifact_of(Register, PARAMS, work, {"checkpoint": checkpoint, "metrics": metrics})
    return {"model": model, "seconds": time.monotonic() - start, **inputs, "shards": shards, "metrics": metrics}


def _folder(factory, kind):
    from tests.stages.pool import table_artifact

    return table_artifact(kind, factory.mktemp(kind))


def _committed(store, artifact, stage, **inputs):
    """The artifact at its place in a store, with a manifest that names its inputs."""
    from dataclasses import replace

    target = store / stage / artifact.key
    target.parent.mkdir(parents=True, exist_ok=True)
    artifact.path.rename(target)
    parents = [{"name": n, "stage": a.stage, "key": a.key, "digest": a.digest} for n, a in inputs.items()]
    return with_manifest(replace(artifact, stage=stage, path=target), inputs=parents, digest=artifact.digest)


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


def test_card_tells_data_results_lineage_and_how_to_load(registered):
    card = (registered["model"].path / "README.md").read_text()
    roles = registered["selection"].table(["role"])["role"].to_pylist()
    assert f"{roles.count('train')} of {len(roles)} images trained this model" in card
    assert f"| dropped | over_quota | {roles.count('dropped')} |" in card
    assert "curatrain-v1" in card
    assert registered["checkpoint"].key[:16] in card
    assert 'timm.create_model("test_resnet", pretrained=False, num_classes=0)' in card
    assert card == (registered["model"].path / "report" / "model_card.md").read_text()


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
