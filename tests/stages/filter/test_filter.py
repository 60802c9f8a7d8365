import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter

from stages.base import StageError
from stages.filter import Filter, FilterParams
from stages.tables import IMAGES, table_from_rows, write_part
from tests.stages.pool import (
    artifact_of,
    context_of,
    emoji_bytes,
    image_row,
    table_artifact,
    write_images_artifact,
)
from tests.stages.test_embed import Backwards
from tests.training.samples import encoded_pictures, photographs

DEFECTS = {
    "dark": lambda p: p.point(lambda v: v * 0.05),
    "bright": lambda p: p.point(lambda v: min(255, 250 + v / 16)),
    "blur": lambda p: p.filter(ImageFilter.GaussianBlur(24)),
    "aspect": lambda p: p.crop((0, 200, p.width, 240)),
    "near_blank": lambda p: p.point(lambda v: 120 + v / 250),
    "small": lambda p: p.resize((20, 12)),
}


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def items():
    """Drawings, photographs, and photographs with a planted defect each."""
    planted = [(name, None, jpeg(plant(photographs()[0]))) for name, plant in DEFECTS.items()]
    plain = [(f"plain{row}", None, data) for row, (data, _) in enumerate(encoded_pictures(20))]
    whole = [(f"whole{row}", None, jpeg(picture)) for row, picture in enumerate(photographs())]
    return [*emoji_bytes(40, 72), *plain, *whole, *planted]


@pytest.fixture(scope="module")
def images(items, tmp_path_factory):
    return write_images_artifact(tmp_path_factory.mktemp("images"), items)


@pytest.fixture(scope="module")
def quality(images, tmp_path_factory):
    return artifact_of(Filter, {}, tmp_path_factory.mktemp("quality"), {"images": images})


def reasons_by_name(images, quality) -> dict[str, list[str]]:
    urls = dict(zip(*images.table(["image_id", "url"]).to_pydict().values(), strict=True))
    return {urls[row["image_id"]].removeprefix("file:///pool/"): row["reasons"] for row in quality.table().to_pylist()}


def test_the_defaults_keep_drawings_and_photographs_and_name_each_defect(images, quality):
    found = reasons_by_name(images, quality)
    for name, reasons in found.items():
        if name in DEFECTS:
            assert name in reasons, (name, reasons)
        else:
            assert reasons == [], name
    assert quality.manifest["rows_out"] == len(found) - len(DEFECTS)
    assert quality.manifest["metrics"]["dropped/blur"] == 1
    for row in quality.table().to_pylist():
        assert row["keep"] == (not row["reasons"])
        assert row["reasons"] == sorted(row["reasons"])
        assert row["keep_probability"] == 1


def test_scores_and_report_stand_beside_the_verdicts(images, quality):
    scores = pq.read_table(quality.path / "scores.parquet")
    assert scores["image_id"].to_pylist() == quality.table()["image_id"].to_pylist()
    assert {"blur", "text", "odd_size", "caption_words"} <= set(scores.column_names)
    assert not (quality.path / "scores").exists()
    rows = {row["reason"]: row for row in csv.DictReader((quality.path / "report" / "drops.csv").open())}
    assert (rows["aspect"]["images"], rows["aspect"]["alone"]) == ("1", "1")
    page = (quality.path / "report" / "filters.html").read_text()
    assert len(page) < 2_000_000
    assert page.count("<svg") == len(rows) - 1  # all but undecodable
    assert 'class="dropped"' in page
    review = list(csv.DictReader((quality.path / "report" / "captions_review.csv").open()))
    assert len(review) == quality.manifest["rows_in"]
    assert {"caption", "caption_readability", "review"} <= set(review[0])


def test_digest_does_not_depend_on_parts_order_or_workers(items, quality, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.image_rows._MIN_ROWS", 9)
    monkeypatch.setattr("stages.image_rows._MAX_ROWS", 9)
    images = write_images_artifact(tmp_path / "images", items[::-1], parts=4)
    other = artifact_of(Filter, {"actors": 3}, tmp_path / "out", {"images": images}, compute=Backwards())
    assert other.digest == quality.digest
    mine, theirs = (pq.read_table(artifact.path / "scores.parquet") for artifact in (other, quality))
    assert mine.equals(theirs)


def test_other_thresholds_take_all_scores_over(images, quality, tmp_path):
    params = {"preset": "strict", "blur": 0.2, "keep_by": None}
    changed = artifact_of(Filter, params, tmp_path / "changed", {"images": images}, earlier=[quality])
    fresh = artifact_of(Filter, params, tmp_path / "fresh", {"images": images})
    assert changed.manifest["metrics"]["computed_rows"] == 0
    assert changed.manifest["metrics"]["reused_rows"] == changed.manifest["rows_in"]
    assert changed.digest == fresh.digest != quality.digest


def test_a_grown_pool_and_changed_captions_compute_only_what_is_new(items, images, quality, tmp_path):
    part = write_images_artifact(tmp_path / "part", items[:30])
    earlier = artifact_of(Filter, {}, tmp_path / "earlier", {"images": part})
    grown = artifact_of(Filter, {}, tmp_path / "grown", {"images": images}, earlier=[earlier])
    assert grown.manifest["metrics"]["reused_rows"] == earlier.manifest["rows_in"]
    assert grown.digest == quality.digest
    rows = images.table().to_pylist()
    rows[0]["caption"], rows[1]["caption"] = "another caption", None
    write_part(tmp_path / "told", "images", 0, table_from_rows(IMAGES, rows))
    told = artifact_of(
        Filter, {}, tmp_path / "out", {"images": table_artifact("images", tmp_path / "told")}, earlier=[quality]
    )
    assert told.manifest["metrics"]["computed_rows"] == 2
    languages = {"captions": {"languages": ["en"], "min_language": 0.0}}
    other = artifact_of(Filter, languages, tmp_path / "other", {"images": part}, earlier=[quality])
    assert other.manifest["metrics"]["reused_rows"] == 0


def test_a_killed_stage_continues_from_its_parts(images, quality, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.image_rows._MIN_ROWS", 10)
    monkeypatch.setattr("stages.image_rows._MAX_ROWS", 10)
    stage = Filter(FilterParams())
    with pytest.raises(KeyboardInterrupt):
        stage.run(context_of(stage, tmp_path, {"images": images}, compute=Backwards(limit=2)))
    result = stage.run(context_of(stage, tmp_path, {"images": images}))
    assert 0 < result.metrics["resumed_rows"] < result.rows_in
    assert result.metrics["computed_rows"] == result.rows_in - result.metrics["resumed_rows"]
    assert result.digest == quality.digest


def test_an_undecodable_picture_is_a_reason(items, tmp_path):
    rows = [image_row(*item) for item in items[:5]]
    rows[2]["bytes"] = rows[2]["bytes"][:60]
    write_part(tmp_path / "images", "images", 0, table_from_rows(IMAGES, rows))
    found = artifact_of(Filter, {}, tmp_path / "out", {"images": table_artifact("images", tmp_path / "images")})
    dropped = [row for row in found.table().to_pylist() if not row["keep"]]
    assert [(row["image_id"], row["reasons"]) for row in dropped] == [(rows[2]["image_id"], ["undecodable"])]


def test_an_empty_pool_and_a_pool_that_loses_all_say_so(images, tmp_path):
    write_part(tmp_path / "none", "images", 0, table_from_rows(IMAGES, []))
    with pytest.raises(StageError, match="pool is empty"):
        artifact_of(Filter, {}, tmp_path / "a", {"images": table_artifact("images", tmp_path / "none")})
    with pytest.raises(StageError, match=r"100.0% of the images would be dropped \(\d+ small.*loosen"):
        artifact_of(Filter, {"small": 5000}, tmp_path / "b", {"images": images})
    with pytest.raises(StageError, match=r"max_dropped_share is 0.01"):
        artifact_of(Filter, {"small": 70, "max_dropped_share": 0.01}, tmp_path / "c", {"images": images})


def test_formats_are_kept_by_name(images, tmp_path):
    found = artifact_of(Filter, {"preset": "none", "formats": ["jpeg"]}, tmp_path, {"images": images})
    formats = dict(zip(*images.table(["image_id", "format"]).to_pydict().values(), strict=True))
    for row in found.table().to_pylist():
        assert ("format" in row["reasons"]) == (formats[row["image_id"]] != "JPEG")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_images_are_kept_by_chance_with_the_tables_probabilities(images, tmp_path, suffix):
    ids = images.table(["image_id"])["image_id"].to_pylist()
    path = tmp_path / f"keep.{suffix}"
    table = pa.table({"image_id": ids[1:], "p": [(0.0, 1.0, 0.5)[row % 3] for row in range(1, len(ids))]})
    if suffix == "csv":
        path.write_text("image_id,p\n" + "".join(f"{r['image_id']},{r['p']}\n" for r in table.to_pylist()))
    else:
        pq.write_table(table, path)
    params = {"preset": "none", "keep_by": {"table": str(path), "column": "p"}}
    found = artifact_of(Filter, params, tmp_path / "out", {"images": images}).table()
    told = dict(zip(*table.to_pydict().values(), strict=True))
    for row in found.to_pylist():
        probability = told.get(row["image_id"], 1.0)
        assert row["keep_probability"] == probability
        if probability in (0, 1):
            assert row["reasons"] == ([] if probability else ["chance"])


def test_a_keep_table_that_does_not_fit_says_what_is_missing(images, tmp_path):
    path = tmp_path / "keep.csv"
    path.write_text("image_id,loss\nabc,3.5\n")
    with pytest.raises(StageError, match=r"and 'p'; it has image_id, loss"):
        artifact_of(Filter, {"keep_by": {"table": str(path), "column": "p"}}, tmp_path / "a", {"images": images})
    keep_by = {"table": str(path), "column": "loss"}
    with pytest.raises(StageError, match=r"outside 0 to 1.*values: loss"):
        artifact_of(Filter, {"keep_by": keep_by}, tmp_path / "b", {"images": images})
    found = artifact_of(Filter, {"keep_by": {**keep_by, "values": "loss"}}, tmp_path / "c", {"images": images})
    assert found.manifest["metrics"]["dropped/chance"] == 0


def test_json_round_trip_of_the_resolved_parameters():
    for preset in ("none", "basic", "strict", "cc3m", "cc12m", "datacomp"):
        params = FilterParams.model_validate({"preset": preset, "captions": {"min_words": 5}})
        assert FilterParams.model_validate(json.loads(params.model_dump_json())) == params
        assert params.captions.min_words == 5
    assert np.isclose(FilterParams.model_validate({"preset": "strict", "aspect": 7}).aspect, 7)


def test_the_preset_of_cleanvision_names_its_issues_and_takes_the_scores_of_an_earlier_run(images, quality, tmp_path):
    found = artifact_of(Filter, {"preset": "cleanvision"}, tmp_path, {"images": images}, earlier=[quality])
    assert found.manifest["metrics"]["reused_rows"] == images.table(["image_id"]).num_rows
    reasons = reasons_by_name(images, found)
    assert {"cleanvision_dark"} <= set(reasons["dark"])
    assert "cleanvision_light" in reasons["bright"]
    assert "cleanvision_odd_aspect_ratio" in reasons["aspect"]
    assert all(reason.startswith("cleanvision_") for row in reasons.values() for reason in row)
    own = FilterParams.model_validate({"preset": "cleanvision", "cleanvision": {"grayscale": False}}).cleanvision
    assert (own.grayscale, own.blurry) == (False, 0.29)
