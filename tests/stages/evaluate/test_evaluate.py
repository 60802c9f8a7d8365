"""The evaluate stage on drawings of OpenMoji."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stages.base import StageError
from stages.evaluate import Evaluate, EvaluateParams
from stages.evaluate.features import compute_features
from stages.evaluate.worker import PassWorker
from tests.stages.pool import artifact_of, context_of
from tests.stages.probe_inputs import CONFIG, PREPROCESSING, backbone_of, write_checkpoint, write_pool
from training.evaluation.protocol import PROTOCOLS, V2

PARAMS = {
    "max_per_class": 20,
    "max_queries_per_class": 8,
    "min_class_size": 4,
    "k_grid": (5,),
    "protocol": "curatrain-v1",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    images, selection = write_pool(folder)
    return {"checkpoint": write_checkpoint(folder / "checkpoint"), "images": images, "selection": selection}


@pytest.fixture(scope="module")
def evaluated(inputs, tmp_path_factory):
    work = tmp_path_factory.mktemp("evaluated")
    events: list = []
    return artifact_of(Evaluate, PARAMS, work, inputs, events=events), events


def test_figures_of_all_three_contestants_with_intervals(evaluated):
    artifact, events = evaluated
    metrics = artifact.manifest["metrics"]
    for probe in ("knn", "linear"):
        for contestant in ("trained", "untrained", "pixels"):
            name = f"{probe}_{contestant}"
            assert metrics[f"{name}_lo"] <= metrics[name] <= metrics[f"{name}_hi"]
            assert 0 <= metrics[f"{name}_balanced_lo"] <= metrics[f"{name}_balanced_hi"] <= 1
        difference = metrics[f"{probe}_trained"] - metrics[f"{probe}_untrained"]
        assert metrics[f"{probe}_gain_over_untrained"] == pytest.approx(difference, abs=1e-5)
    assert 1 < metrics["rankme_trained"] <= 96
    assert metrics["knn_pixels"] > 1 / 10
    assert artifact.manifest["summary"].startswith("kNN .")
    assert any(kind == "progress" and fields["done"] == fields["total"] for kind, fields in events)


def test_result_file_tells_protocol_split_and_what_was_left_out(evaluated):
    artifact, events = evaluated
    record = json.loads((artifact.path / "metrics.json").read_text())
    assert record["protocol"]["id"] == "curatrain-v1"
    assert len(record["split"]["digests"]["queries"]) == 32
    assert sum(row["queries"] for row in record["classes"]) == record["split"]["queries"]
    assert all(4 <= row["bank"] <= 20 and 1 <= row["queries"] <= 8 for row in record["classes"])
    notes = [fields["text"] for kind, fields in events if kind == "note"]
    assert all(any(name in note for note in notes) for name in record["split"]["left_out"])
    assert np.sum(record["confusion"]["knn"]) == record["split"]["queries"]
    right = sum(record["confusion"]["knn"][c][c] for c in range(len(record["classes"])))
    assert right / record["split"]["queries"] == pytest.approx(record["metrics"]["knn_trained"], abs=1e-5)


def test_report_can_be_looked_at(evaluated):
    artifact, _ = evaluated
    report = artifact.path / "report"
    for name in ("figures.html", "neighbours.html", "mistakes.html"):
        assert 1000 < len((report / name).read_text()) < 2_000_000
    for name in ("accuracy.png", "confusion.png"):
        assert Image.open(report / name).size[0] > 300
    assert "## By class" in (report / "evaluation.md").read_text()
    assert len((report / "per_class.csv").read_text().splitlines()) > 5
    assert not (artifact.path / "probe").exists()


def test_killed_attempt_goes_on_from_its_parts_to_the_same_digest(inputs, evaluated, tmp_path, monkeypatch):
    stage = Evaluate(EvaluateParams(**PARAMS))
    calls = []
    original = PassWorker.__call__

    def counted(self, task):
        calls.append(task["out"])
        return original(self, task)

    monkeypatch.setattr(PassWorker, "__call__", counted)
    monkeypatch.setattr("stages.evaluate.features._PART_ROWS", 16)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    context = context_of(stage, tmp_path, inputs)
    with monkeypatch.context() as patch:
        patch.setattr("stages.evaluate.measure.predictions_of", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(context)
    (tmp_path / "probe" / "features-00001.npz").unlink()
    first = len(calls)
    result = stage.run(context_of(stage, tmp_path, inputs))
    assert first >= 3
    assert calls[first:] == [str(tmp_path / "probe" / "features-00001.npz")]
    assert result.digest == evaluated[0].digest


def test_pool_without_labels_gives_label_free_measures(inputs, tmp_path):
    images, selection = write_pool(tmp_path / "pool", 60, labelled=False)
    events: list = []
    pool = {"checkpoint": inputs["checkpoint"], "images": images, "selection": selection}
    artifact = artifact_of(Evaluate, {"max_unlabelled": 40}, tmp_path / "work", pool, events=events)
    metrics = artifact.manifest["metrics"]
    assert metrics["rankme_trained"] > 1 < metrics["lidar_trained"]
    assert {"uniformity_untrained", "copy_micro_ap_trained", "pck_0.1_trained"} <= set(metrics)
    assert not {"knn_trained", "tolerance_trained", "corrupted_quick_trained"} & set(metrics)
    assert not (artifact.path / "predictions.arrow").exists()
    assert any("no labels" in fields["text"] for kind, fields in events if kind == "note")
    assert (artifact.path / "report" / "neighbours.html").exists()
    assert "label-free" in (artifact.path / "report" / "evaluation.md").read_text()


def test_features_are_those_of_timm_and_untrained_is_the_seeds_own(inputs, tmp_path):
    stage = Evaluate(EvaluateParams(**PARAMS))
    pictures = inputs["images"].table(["image_id", "bytes"]).slice(0, 5)
    ids = pictures["image_id"].to_pylist()
    before = torch.random.get_rng_state()
    features, decoded, *_ = compute_features(context_of(stage, tmp_path, inputs), ids, 32)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert decoded.all()
    assert features["pixels"].shape == (5, 3072)
    mean, std = (np.array(PREPROCESSING[name], np.float32) for name in ("mean", "std"))
    expected = []
    for data in pictures["bytes"].to_pylist():
        layer = Image.open(io.BytesIO(data)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")
        pixels = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
        expected.append(((pixels - mean) / std).transpose(2, 0, 1))
    batch = torch.from_numpy(np.stack(expected))
    for name, seed in (("trained", 11), ("untrained", 3)):
        model = backbone_of(seed).eval()
        with torch.inference_mode():
            np.testing.assert_allclose(features[name], model(batch).numpy(), atol=0.02)


def test_checkpoint_without_its_preprocessing_is_refused(inputs, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint", config={"image_size": 64})
    with pytest.raises(StageError, match="trained at 64 px"):
        artifact_of(Evaluate, PARAMS, tmp_path / "work", {**inputs, "checkpoint": checkpoint})
    (checkpoint.path / "preprocessing.json").unlink()
    with pytest.raises(StageError, match=r"no preprocessing\.json"):
        artifact_of(Evaluate, PARAMS, tmp_path / "again", {**inputs, "checkpoint": checkpoint})


def test_selection_of_other_images_is_refused(inputs, tmp_path):
    other, _ = write_pool(tmp_path / "pool", 7)
    with pytest.raises(StageError, match="not in the images artifact"):
        artifact_of(Evaluate, PARAMS, tmp_path / "work", {**inputs, "images": other})


def test_untrained_weights_as_a_checkpoint_gain_exactly_nothing(inputs, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "same", seed=CONFIG["seed"])
    metrics = artifact_of(Evaluate, PARAMS, tmp_path / "work", {**inputs, "checkpoint": checkpoint}).manifest[
        "metrics"
    ]
    assert metrics["knn_gain_over_untrained"] == 0
    assert metrics["rankme_trained"] == metrics["rankme_untrained"]


def test_a_collapsed_backbone_is_measured_all_the_same(inputs, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "collapsed")
    state = load_file(checkpoint.path / "backbone.safetensors")
    save_file({k: v * (k.endswith("running_var")) for k, v in state.items()}, checkpoint.path / "backbone.safetensors")
    small = replace(V2, view_images=8, grid_steps=5, layers=2, resamples=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, V2.id, replace(small, quick=replace(V2.quick, severities=(1,), invariance_images=8)))
        wide = {**PARAMS, "protocol": V2.id}
        made = artifact_of(Evaluate, wide, tmp_path / "work", {**inputs, "checkpoint": checkpoint})
    metrics = made.manifest["metrics"]
    assert metrics["unit_std_trained"] == 0
    assert metrics["linear_trained"] == metrics["chance"] == metrics["corrupted_quick_trained"]
    assert metrics["rankme_trained"] == pytest.approx(1, abs=0.01)
    assert "invariance_scale_quick_untrained" in metrics
    assert "invariance_scale_quick_trained" not in metrics


def test_importing_the_stage_is_light():
    heavy = ("torch", "numpy", "mlflow", "pyarrow")
    code = f"import sys, stages.evaluate, stages.register; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
