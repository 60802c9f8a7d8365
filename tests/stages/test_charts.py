"""Charts and pictures inside a page: within their frame, true to the values, and free of markup from names."""

from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stages.charts import Line, Mark, dots_chart, heat_table, line_chart
from stages.inline_pictures import box_svg, cells_path, picture_src, shot_html

VALUES = st.floats(-1e9, 1e9, allow_nan=False) | st.just(math.nan) | st.just(math.inf)
HOSTILE = '"><script>alert(1)</script>'


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=30), st.booleans())
def test_lines_stay_inside_their_chart(values: list[float], log: bool) -> None:
    chart = line_chart("x", [Line("x", list(enumerate(values)))], log=log)
    finite = [y for y in values if math.isfinite(y)]
    assert bool(chart) == bool(finite)
    places = [tuple(map(float, p.split(","))) for text in re.findall(r'points="([^"]*)"', chart) for p in text.split()]
    places += [(float(x), float(y)) for x, y in re.findall(r'cx="([^"]+)" cy="([^"]+)"', chart)]
    assert all(36 <= x <= 280 and 0 <= y <= 90 for x, y in places)
    gaps = sum(not math.isfinite(y) for y in values)
    assert chart.count("<polyline") <= gaps + 1


def test_a_line_rises_with_its_values_and_spans_are_shaded() -> None:
    chart = line_chart("loss", [Line("loss", [(0, 1.0), (5, 10.0), (10, 100.0)])], log=True, spans=[(5, 10)])
    found = re.search(r'<polyline points="([^"]+)"', chart)
    assert found is not None
    assert found[1] == "36.0,90.0 158.0,45.0 280.0,0.0"  # a decade each, and half of the width
    assert '<rect x="158.0" y="0" width="122.0"' in chart
    interval = line_chart("a", [Line("a", [(0, 0.5), (1, 0.5)], bounds=[(0, 0.0, 1.0), (1, 0.25, 0.75)])])
    assert 'points="36.0,0.0 280.0,22.5 280.0,67.5 36.0,90.0"' in interval


def test_marks_and_cells_say_their_values() -> None:
    chart = dots_chart([("a", [Mark(0.5, 0.25, 2.0, "red")])], 0, 1)
    assert 'cx="50.0%"' in chart and 'x1="25.0%" x2="100.0%"' in chart and "0.50 (0.25 .. 2.00)" in chart
    table = heat_table(["r"], ["a", "b", "c"], [[0.0, None, 1.0]], low=0, high=1)
    assert re.findall(r"rgba\(47,111,222,([\d.]+)\)", table) == ["0.00", "1.00"]
    assert table.count("<td></td>") == 1 and 'title="r / c: 1"' in table


def test_names_are_text_everywhere() -> None:
    line = Line(HOSTILE, [(0, 1.0), (1, 2.0)])
    pages = [
        line_chart(HOSTILE, [line, line], note=HOSTILE, x_ticks={0: HOSTILE}),
        dots_chart([(HOSTILE, [])], 0, 1),
        heat_table([HOSTILE], [HOSTILE], [[0.5]], low=0, high=1),
        shot_html("data:,", (9, 9), caption=HOSTILE, title=HOSTILE),
    ]
    assert not any("<script" in page or '">' + "<script" in page for page in pages)


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_path_covers_just_the_true_cells(cells: np.ndarray) -> None:
    drawn = np.zeros(cells.shape, int)
    rows, columns = cells.shape
    for x, y, width in re.findall(r"M([\d.e-]+) ([\d.e-]+)h([\d.e-]+)v", cells_path(cells)):
        left, top, span = round(float(x) * columns), round(float(y) * rows), round(float(width) * columns)
        drawn[top, left : left + span] += 1
    assert np.array_equal(drawn, cells.astype(int))


def test_small_pictures_keep_every_pixel_and_large_ones_shrink() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)

    def opened(src: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(src.removeprefix("data:image/webp;base64,"))))

    assert np.array_equal(np.asarray(opened(picture_src(pixels)).convert("RGB")), pixels)
    large = np.repeat(np.repeat(pixels, 30, axis=0), 30, axis=1)
    assert opened(picture_src(large)).size == (256, 171)


@pytest.mark.parametrize("dashed", [False, True])
def test_a_box_lies_where_it_is_said_to(dashed: bool) -> None:
    box = box_svg((0.25, 0.5, 0.75, 1.0), "red", dashed=dashed)
    assert 'x="0.25" y="0.5" width="0.5" height="0.5"' in box
    assert ("stroke-dasharray" in box) == dashed
