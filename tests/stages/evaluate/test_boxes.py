"""True boxes out of metadata, and how often they are found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stages.evaluate.boxes import discovery_figures, true_boxes
from stages.tables import IMAGES, table_from_rows, write_part
from tests.stages.pool import emoji_bytes, image_row, table_artifact

GIVEN = [
    {"boxes": [[0.25, 0.0, 0.75, 1.0], [0, 0, 1, 1]]},
    {"boxes": json.dumps([[0.0, 0.0, 0.5, 0.5]])},
    {"boxes": [[0.5, 0.0, 0.25, 1.0]]},
    {"boxes": [[0, 0, 640, 480]]},
    {"boxes": []},
    {"other": '"boxes"'},
    None,
]


def test_boxes_are_read_and_what_is_none_counts_as_none(tmp_path):
    rows = [
        {**image_row(*item), "metadata": None if given is None else json.dumps(given)}
        for item, given in zip(emoji_bytes(len(GIVEN)), GIVEN, strict=True)
    ]
    ids = [row["image_id"] for row in rows]
    write_part(tmp_path, "images", 0, table_from_rows(IMAGES, sorted(rows, key=lambda row: row["image_id"])))
    images = table_artifact("images", tmp_path)
    assert true_boxes(images, ids) == {
        ids[0]: [(0.25, 0.0, 0.75, 1.0), (0.0, 0.0, 1.0, 1.0)],
        ids[1]: [(0.0, 0.0, 0.5, 0.5)],
    }
    assert set(true_boxes(images, ids[1:])) == {ids[1]}


def test_found_boxes_are_right_where_they_overlap_a_true_one_by_half():
    arrays = {"trained": np.array([[0, 0, 1, 0.5], [0, 0, 0.1, 0.1]]), "decoded": np.ones(2, bool)}
    truth = {"a": [(0.9, 0.9, 1.0, 1.0), (0.0, 0.0, 1.0, 0.6)], "b": [(0.0, 0.0, 1.0, 1.0)]}
    found = discovery_figures(arrays, ["a", "b"], truth)
    assert found["corloc_trained"] == pytest.approx(0.5)
    assert found["corloc_trained_lo"] < 0.5 < found["corloc_trained_hi"]
    assert "corloc_untrained" not in found
