"""Protocol v2 on a small vision transformer: every measure, each where it is told."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from safetensors.torch import save_file

from stages.evaluate import Evaluate, EvaluateParams
from stages.evaluate.feature_tables import read_features
from tests.stages.pool import artifact_of, table_artifact
from tests.stages.probe_inputs import CONFIG, PREPROCESSING, write_pool
from training.evaluation.knn import knn_predictions
from training.evaluation.protocol import PROTOCOLS, V2
from training.heads import MLPHead

NAME, OPTIONS = "vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "img_size": 32}
SMALL = replace(V2, view_images=20, grid_steps=20, quick=replace(V2.quick, invariance_images=24))
"""Fewer images and steps, so that the test is quick; what is measured is the same."""

PARAMS = {
    "max_per_class": 20,
    "max_queries_per_class": 8,
    "min_class_size": 4,
    "fine_tune": "partial",
    "fine_tune_images": 60,
    "attentive_probe": True,
}


def write_vit(path):
    """A checkpoint of a vision transformer."""
    path.mkdir(parents=True)
    torch.manual_seed(5)
    save_file(timm.create_model(NAME, num_classes=0, **OPTIONS).state_dict(), path / "backbone.safetensors")
    shape = {"layers": 2, "hidden": 32, "out": 16, "output_norm": True, "activation": "relu"}
    projector = MLPHead(48, MLPHead.Config(**shape))
    save_file(
        {f"projector.{name}": value for name, value in projector.state_dict().items()}, path / "heads.safetensors"
    )
    objective = {"name": "simclr", "projection": shape}
    config = {**CONFIG, "backbone": {"name": NAME, "kwargs": OPTIONS}, "dim": 48, "objective": objective}
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    return table_artifact("checkpoint", path)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    images, selection = write_pool(folder)
    inputs = {"checkpoint": write_vit(folder / "checkpoint"), "images": images, "selection": selection}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, V2.id, SMALL)
        return artifact_of(Evaluate, PARAMS, folder / "work", inputs)


@pytest.fixture(scope="module")
def record(evaluated):
    return json.loads((evaluated.path / "metrics.json").read_text())


def test_every_measure_has_its_figure_and_its_interval(evaluated):
    metrics = evaluated.manifest["metrics"]
    both = [
        *(
            "knn",
            "linear",
            "ridge",
            "interpolation",
            "5_shot",
            "10_percent",
            "map",
            "recall_1",
            "ece",
            "copy_micro_ap",
        ),
        *("partial", "pck_0.1", "norm_outlier_share", "corrupted_quick", "invariance_rotation_quick"),
        "shortcut_reliance_quick",
    ]
    names = [f"{name}_{contestant}" for name in both for contestant in ("trained", "untrained")]
    for name in [*names, "grid_trained", "attentive_trained", "knn_pixels", "linear_gain_over_untrained"]:
        assert metrics[f"{name}_lo"] <= metrics[name] + 1e-6, name
        assert metrics[name] <= metrics[f"{name}_hi"] + 1e-6, name
    for name in ("lidar", "alignment", "alpha_req", "stable_rank", "nesum", "uniformity", "tolerance",
                 "cluster_learnability", "intrinsic_dimension", "rankme", "unit_std"):  # fmt: skip
        assert np.isfinite(metrics[f"{name}_trained"]) and np.isfinite(metrics[f"{name}_untrained"])
    parts = ("approximation", "usability", "probe_generalisation", "encoder_generalisation")
    for prefix in ("", "few_shot_"):
        total = sum(metrics[f"{prefix}risk_{part}"] for part in parts)
        assert total == pytest.approx(metrics[f"{prefix}risk_total"], abs=1e-5)
    assert metrics["mce_quick"] > 0
    assert all(np.isfinite(value) for value in metrics.values())


def test_probes_read_the_tables_of_features(evaluated, record):
    folder = evaluated.path / "features" / "pool"
    names = {path.stem for path in folder.iterdir()}
    inside = {f"trained-block_{n}-{kind}" for n in range(3) for kind in ("class", "average")}
    inside |= {"trained-projector-pooled"}
    assert names == {"trained-backbone-pooled", "untrained-backbone-pooled", "pixels-input-colours", *inside}
    with pa.memory_map(str(folder / "trained-backbone-pooled.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.column_names == ["image_id", "role", "label", "vector"]
    assert json.loads(table.schema.metadata[b"preprocessing"]) == PREPROCESSING
    assert (table.schema.metadata[b"layer"], table.schema.metadata[b"pooling"]) == (b"backbone", b"pooled")
    vectors = read_features(folder / "trained-backbone-pooled.arrow")
    bank = np.array(table["role"]) == "bank"
    classes, labels = np.unique(np.array(table["label"]), return_inverse=True)
    guesses = knn_predictions(vectors[bank], labels[bank], vectors[~bank], [20])[20]
    assert (guesses == labels[~bank]).mean() == pytest.approx(record["metrics"]["knn_trained"], abs=1e-5)
    assert list(classes) == [row["name"] for row in record["classes"]]
    colours = read_features(folder / "pixels-input-colours.arrow")
    assert colours.shape == (len(table), 3 * V2.pixel_side**2)
    assert 0 <= colours.min() < 0.2 < 0.9 < colours.max() <= 1
    pa_metadata = pa.ipc.open_file(str(evaluated.path / "predictions.arrow")).read_all()
    said = dict(zip(pa_metadata.column_names, (column.to_numpy() for column in pa_metadata.columns), strict=True))
    assert (said["knn_trained"] == guesses).all()
    assert (said["linear_pixels"] == said["truth"]).mean() == pytest.approx(
        record["metrics"]["linear_pixels"], abs=1e-5
    )


def test_tables_of_the_record(record):
    assert record["protocol"]["id"] == "curatrain-v2"
    assert [row["name"] for row in record["layers"]][-2:] == ["projector/pooled", "backbone"]
    assert record["layers"][-1]["knn"] == record["metrics"]["knn_trained"]
    assert "knn_gain" in record["layers"][0]
    assert len(record["grid"]["selection"]) == 52
    chosen = record["grid"]["head"]
    best = max(head["held_out"] for head in record["grid"]["selection"])
    assert {**chosen, "held_out": best} in record["grid"]["selection"]
    tables = record["robustness"]
    assert [row["name"] for row in tables["trained"]][:4] == [
        "clean", "gaussian_noise_1", "gaussian_noise_3", "gaussian_noise_5"
    ]  # fmt: skip
    assert {"resolution_16", "resolution_8", "crop_0.4", "jpeg_5"} <= {row["name"] for row in tables["trained"]}
    assert tables["images"] == record["split"]["queries"]
    assert tables["trained"][0]["accuracy"] == record["metrics"]["linear_trained"]
    assert set(tables["corruption_error"]) <= set(V2.quick.corruptions)
    assert set(tables["invariance"]["trained"]) == {
        "occlusion", "scale", "translation", "rotation", "illumination", "colour"
    }  # fmt: skip
    assert tables["shortcut"]["trained"]["reliance"] == record["metrics"]["shortcut_reliance_quick_trained"]
    assert len(record["local"]["attention_distance"]) == 3
    for contestant in ("trained", "untrained"):
        tuned = record["fine_tune"][contestant]
        assert (tuned["epochs"], tuned["blocks"], len(tuned["losses"])) == (1, 1, 1)
        assert len(record["calibration"][contestant]["rows"]) == V2.bins
    assert sum(record["calibration"]["trained"]["rows"]) == record["split"]["queries"]


def test_costs_are_told_and_are_no_part_of_the_digest(evaluated, record):
    costs = json.loads((evaluated.path / "costs.json").read_text())[""]
    assert costs["features_seconds"] > 0 < costs["features_memory"]
    assert evaluated.manifest["metrics"]["features_images_per_s"] == costs["features_images_per_s"]
    assert not any(name.endswith("_seconds") for name in record["metrics"])


def test_report_tells_of_it(evaluated, record):
    report = evaluated.path / "report"
    text = (report / "evaluation.md").read_text()
    for part in ("## Further probes", "grid of linear heads", "attentive probe", "LiDAR", "## Local features",
                 "## Changed pictures", "Mean corruption error", "## By layer", "| block_2/class |"):  # fmt: skip
        assert part in text, part
    assert "images/s a worker" in text
    with (report / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(record["robustness"]["trained"])
    assert float(rows[1]["interval_lo"]) <= float(rows[1]["accuracy"]) <= float(rows[1]["interval_hi"])
    assert len((report / "grid.csv").read_text().splitlines()) == 53
    assert (report / "layers.csv").read_text().startswith("name,dim,knn")
    assert (report / "patches.html").exists()


def test_measures_that_v1_does_not_have_are_refused():
    with pytest.raises(ValueError, match="fine_tune is no part of protocol curatrain-v1"):
        EvaluateParams(protocol="curatrain-v1", fine_tune="full")
    with pytest.raises(ValueError, match="attentive_probe is no part"):
        EvaluateParams(protocol="curatrain-v1", attentive_probe=True)
