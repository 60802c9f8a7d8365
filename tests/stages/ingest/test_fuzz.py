import hashlib
import os
from collections import Counter

import pytest

from stages.ingest.reasons import REASONS
from stages.tables import read_table
from tests.stages.ingest.mutants import mutants, seeds
from tests.stages.ingest.test_ingest import _fetch_row, _fetches, _ingest


def _run(tmp_path, files):
    """Ingest files given as (name, bytes); every distinct one ends as an image or with a known reason."""
    rows = [_fetch_row(f"{number} {name}", data) for number, (name, data) in enumerate(files)]
    result = _ingest(tmp_path / "work", _fetches(tmp_path / "f", rows, part_rows=500), max_rejected_share=1.0)
    images = read_table(tmp_path / "work", "images").to_pylist()
    rejected = read_table(tmp_path / "work", "rejected").to_pylist()
    ids = {row["image_id"] for row in images} | {row["sha256"] for row in rejected}
    assert ids == {hashlib.sha256(data).hexdigest() for _, data in files} and result.rows_in == len(files)
    assert len(images) + len(rejected) == len(ids)
    assert {row["reason"] for row in rejected} <= set(REASONS)
    return images, Counter(row["reason"] for row in rejected)


def test_the_seeds_are_all_images(tmp_path):
    images, rejected = _run(tmp_path, list(seeds().items()))
    assert not rejected and {row["format"] for row in images} == {
        "jpeg", "png", "bmp", "webp", "gif", "tiff", "avif", "jp2", "pnm",
    }  # fmt: skip
    by_url = {row["url"].split(" ")[1]: row for row in images}
    assert by_url["jpeg"]["exif"] == '{"make": "Maker", "model": "Model", "taken": "2020:01:02 03:04:05"}'
    assert by_url["jpeg"]["orientation"] == 6 and by_url["gif-animated"]["frames"] > 1
    animated = {name for name, row in by_url.items() if "animated" in row["remarks"]}
    assert animated == {"apng", "webp-animated", "gif-animated"}


def test_damaged_files_are_rejected_or_read_and_none_is_lost(tmp_path):
    images, rejected = _run(tmp_path, list(mutants(440, seed=1)))
    assert len(rejected) >= 4 and images


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    count, seed = int(os.environ.get("CURATRAIN_MUTANTS", "10000")), int(os.environ.get("CURATRAIN_SEED", "2"))
    images, rejected = _run(tmp_path, list(mutants(count, seed)))
    print(f"{count} mutants, seed {seed}: {len(images)} images, {rejected}")
    assert rejected["decoder_crash"] == rejected["decoder_timeout"] == 0
