"""Masks out of metadata, and segmentation of an evaluation set that has masks and no labels."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stages.evaluate import Evaluate
from stages.evaluate.masks import masked_images, segmented
from stages.guards import set_digests
from stages.tables import IMAGES, table_from_rows, write_part
from tests.stages.evaluate.test_sets import write_guard
from tests.stages.pool import artifact_of, emoji_bytes, image_row, table_artifact
from tests.stages.probe_inputs import write_checkpoint, write_pool
from training.evaluation.protocol import PROTOCOLS, V2, SegmentationSettings


def png(mask, mode=None):
    buffer = io.BytesIO()
    picture = Image.fromarray(mask)
    (picture.convert(mode) if mode else picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def outline(data):
    """Class 7 where a drawing is, 3 beside it, 255 on the border between them."""
    alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]
    return np.select([alpha > 200, alpha < 50], [7, 3], 255).astype(np.uint8)


def write_images(path, metadata, count):
    rows = [
        {**image_row(*item), "source": "outlines", "label": None, "metadata": json.dumps(metadata(index, item[2]))}
        for index, item in enumerate(emoji_bytes(count))
    ]
    write_part(path, "images", 0, table_from_rows(IMAGES, sorted(rows, key=lambda row: row["image_id"])))
    return table_artifact("images", path), [row["image_id"] for row in rows]


def test_masks_are_read_and_what_is_none_is_counted(tmp_path):
    mask = np.array([[0, 1], [255, 300]], np.uint16)
    given = [
        {"mask": png(mask)},
        {"mask": png(mask.astype(np.uint8), "P")},
        {"mask": png(np.zeros((2, 2, 3), np.uint8))},
        {"mask": "no base64"},
        {"mask": png(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))[:1000]},
        {"other": "mask"},
        {"boxes": '"mask"'},
    ]
    images, ids = write_images(tmp_path, lambda n, _: given[n], len(given))
    found = masked_images(images, ids)
    assert found.ids == ids[:2] and found.broken == 3
    masks = found.masks(ids[:2])
    np.testing.assert_array_equal(masks[ids[0]], mask)
    assert masks[ids[1]].shape == (2, 2)
    assert masked_images(images, ids[1:]).ids == [ids[1]]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    images, selection = write_pool(folder, 40, labelled=False)
    sets, _ = write_images(folder / "sets", lambda _, data: {"mask": png(outline(data))}, 30)
    inputs = {
        "checkpoint": write_checkpoint(folder / "checkpoint"),
        "images": images,
        "selection": selection,
        "evaluation_images": sets,
        "duplicates": write_guard(folder / "duplicates", images, set_digests(sets)),
    }
    with pytest.MonkeyPatch.context() as patch:
        small = replace(V2, view_images=4, layers=0, segmentation=SegmentationSettings(bank=12, queries=10, side=64))
        patch.setitem(PROTOCOLS, V2.id, small)
        return artifact_of(Evaluate, {"min_class_size": 3}, folder / "work", inputs)


def test_a_set_with_masks_and_no_labels_is_segmented(evaluated):
    metrics = evaluated.manifest["metrics"]
    table = json.loads((evaluated.path / "metrics.json").read_text())["sets"]["outlines"]["segmentation"]
    assert (table["bank"], table["queries"], table["unreadable"], table["grid"]) == (12, 10, 0, [4, 4])
    assert [row["class"] for row in table["classes"]] == [3, 7]
    for probe in ("linear", "knn"):
        for contestant in ("trained", "untrained"):
            name = f"outlines/seg_{probe}_miou_{contestant}"
            assert 0 < metrics[f"{name}_lo"] <= metrics[name] <= metrics[f"{name}_hi"] < 1
            mean = np.mean([row[f"{probe}_{contestant}"] for row in table["classes"]])
            assert metrics[name] == pytest.approx(mean, abs=1e-5)
            assert 0 < metrics[f"outlines/seg_{probe}_pixels_{contestant}"] < 1
    # A drawing fills the middle: places alone tell more than one class for all pixels would.
    commonest = max(row["share"] for row in table["classes"])
    assert metrics["outlines/seg_linear_miou_trained"] > commonest / 2
    assert not any(name.startswith("outlines/knn") for name in metrics)


def test_segmentation_is_told_in_the_report_and_drawn_on_the_page(evaluated):
    report = evaluated.path / "report" / "outlines"
    text = (report / "evaluation.md").read_text()
    assert "## Segmentation, 12 images with masks to learn from and 10 to test on" in text
    assert "| segmentation by the nearest patches, mIoU |" in text
    assert (report / "segmentation.csv").read_text().startswith("class,share,linear_trained,")
    page = (report / "patches.html").read_text()
    assert 'id="segments"' in page and len(re.findall(r"\.m\d+ {", page)) == 8
    for caption in ("true", "trained", "untrained"):
        assert page.count(f"<figcaption>{caption}</figcaption>") == 8
    assert len(page) < 2_000_000
    assert "The set has masks and no labels" in (evaluated.path / "report" / "evaluation.md").read_text()


def test_one_class_or_no_local_features_leave_a_reason(tmp_path):
    images, ids = write_images(tmp_path, lambda *_: {"mask": png(np.zeros((4, 4), np.uint8))}, 4)
    masked = masked_images(images, ids)
    shown = [(image_id, n > 1) for n, image_id in enumerate(ids)]
    patches = np.zeros((4, 4, 4, 2), np.float16)
    arrays = {"trained": patches, "untrained": patches, "pixels": np.zeros((4, 8, 8, 3), np.uint8)}
    assert segmented(arrays, shown, masked, SegmentationSettings(), 0) == (
        None,
        "masks need two classes among the images to learn from, and one to test on",
    )
    assert segmented({}, shown, masked, SegmentationSettings(), 0)[1].startswith("the backbone has no local features")
