"""Passes of the worker: what is shown to the backbones, and what is told of it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.evaluate.setting import Setting, decoded_pictures
from stages.evaluate.shift_passes import self_learning_pass, shift_of, shortcut_pass
from stages.evaluate.worker import PassWorker
from tests.stages.pool import emoji_bytes
from tests.stages.probe_inputs import write_checkpoint
from tests.training.evaluation.small_vit import PREPROCESSING, small_vit
from training.evaluation.corruptions.catalogue import corrupt_all
from training.evaluation.linear_probe import linear_probe
from training.evaluation.shifts import centre_crop, lower_resolution


def rows(count=24):
    items = emoji_bytes(count)
    return {
        "image_id": [name for name, _, _ in items],
        "bytes": [data for _, _, data in items],
        "orientation": [1] * count,
        "label": [n % 2 for n in range(count)],
        "query": [n % 4 > 1 for n in range(count)],
    }


@pytest.fixture(scope="module")
def setting():
    return Setting({"trained": small_vit()}, None, PREPROCESSING, 16, "cpu")


@pytest.fixture(scope="module")
def pictures():
    return decoded_pictures(rows(), PREPROCESSING)


def test_shifts_by_name(pictures):
    pixels, keys = pictures.squares[:3], pictures.ids[:3]
    expected = {
        "clean": pixels,
        "fog_3": corrupt_all(pixels, "fog", 3, keys, 5),
        "resolution_16": lower_resolution(pixels, 16),
        "crop_0.8": centre_crop(pixels, 0.8),
    }
    for name, changed in expected.items():
        np.testing.assert_array_equal(shift_of(name, keys, 5)(pixels), changed)


def test_self_learning_starts_from_the_linear_probe_on_clean_pictures(setting, pictures):
    task = {"shift": "contrast_2", "c": 0.1, "seed": 0}
    found = json.loads(str(self_learning_pass(setting, pictures, task)["trained"]))
    bank, queries = ~pictures.query, pictures.query
    keys = [image_id for image_id, asked in zip(pictures.ids, queries, strict=True) if asked]
    changed = corrupt_all(pictures.squares[queries], "contrast", 2, keys, 0)
    probe = linear_probe(
        setting.features("trained", pictures.squares[bank]),
        pictures.labels[bank],
        setting.features("trained", changed),
        regularisations=[0.1],
    )
    assert found["before"] == pytest.approx((probe.predictions == pictures.labels[queries]).mean())
    assert found["gain"] == pytest.approx(found["after"] - found["before"])
    assert found["gain_interval"][0] <= found["gain"] <= found["gain_interval"][1]


def test_the_shortcut_test_is_fitted_on_the_bank(setting, pictures):
    found = json.loads(str(shortcut_pass(setting, pictures, {"seed": 0})["trained"]))
    assert found["reliance"] == pytest.approx(found["aligned"] - found["conflicting"])
    assert all(0 <= found[name] <= 1 for name in ("aligned", "unmarked", "conflicting", "clean", "fooled"))


def test_pictures_that_cannot_be_decoded_are_left_out_and_told(tmp_path):
    given = rows(5)
    given["bytes"][1] = b"no picture"
    pq.write_table(pa.table(given), tmp_path / "images.parquet")
    worker = PassWorker(str(write_checkpoint(tmp_path / "checkpoint").path), batch=2, threads=1)
    task = {"kind": "features", "images": str(tmp_path / "images.parquet"), "out": str(tmp_path / "out.npz")}
    assert worker({**task, "layers": 2, "patches": False, "pixel_side": 8}) == {"rows": 5}
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["decoded"].tolist() == [True, False, True, True, True]
        assert len(arrays["trained"]) == len(arrays["pixels"]) == len(arrays["block_4/average"]) == 4
        assert arrays["pixels"].dtype == np.uint8
    given["bytes"] = [b"none"] * 5
    pq.write_table(pa.table(given), tmp_path / "images.parquet")
    worker({**task, "layers": 2, "patches": False, "pixel_side": 8})
    with np.load(tmp_path / "out.npz") as arrays:
        assert not arrays["decoded"].any()


def test_the_untrained_contestant_has_no_closed_branches_where_the_protocol_says_so(tmp_path):
    pq.write_table(pa.table(rows(12)), tmp_path / "images.parquet")
    checkpoint = str(write_checkpoint(tmp_path / "checkpoint").path)
    task = {"kind": "features", "images": str(tmp_path / "images.parquet"), "layers": 0, "patches": False}
    found = {}
    for opened in (False, True):
        worker = PassWorker(checkpoint, batch=12, threads=1, open_branches=opened, channels_last=opened)
        worker({**task, "pixel_side": 8, "out": str(tmp_path / "out.npz")})
        with np.load(tmp_path / "out.npz") as arrays:
            found[opened] = {name: arrays[name] for name in ("trained", "untrained")}
        last = worker.setting.backbones["untrained"].model.layer4[-1].bn2.weight
        assert last.unique().tolist() == [1.0 if opened else 0.0]
    np.testing.assert_allclose(found[True]["trained"], found[False]["trained"], rtol=1e-3, atol=1e-4)
    assert np.abs(found[True]["untrained"] - found[False]["untrained"]).max() > 0.1
