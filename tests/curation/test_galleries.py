import re

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from curation.galleries import Section, Tile, balance, class_histogram, contact_sheet, gallery_html
from tests.stages.pool import emoji_bytes


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    return [Tile(data, name, index % 4 == 0) for index, (name, _, data) in enumerate(emoji_bytes(60))]


def test_the_page_is_self_contained_and_escaped(tiles):
    page = gallery_html('a <b> & "c"', [Section("<script>alert(1)</script>", tiles[:8], "x < y")], note="n & m")
    assert "<script>alert" not in page
    assert "a &lt;b&gt; &amp; &quot;c&quot;" in page
    assert "x &lt; y" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", page)
    assert "http" not in page
    assert page.count("<figure") == 8
    assert page.count('<figure class="dropped"') == 2
    assert "<!--" not in page.replace("<!doctype", "")


def test_captions_cannot_leave_their_attribute(tiles):
    page = gallery_html("t", [Section("s", [Tile(tiles[0].image, '" onload="x')])])
    assert '" onload="' not in page


def test_too_much_is_thinned_evenly_and_the_page_says_so():
    import io

    from PIL import Image

    china = load_sample_image("china.jpg")
    rng = np.random.default_rng(0)
    crops = []
    for _ in range(80):
        top, left = rng.integers(0, 427 - 200), rng.integers(0, 640 - 200)
        buffer = io.BytesIO()
        Image.fromarray(china[top : top + 200, left : left + 200]).save(buffer, "JPEG")
        crops.append(Tile(buffer.getvalue()))
    page = gallery_html("t", [Section(f"s{i}", crops) for i in range(12)])
    assert len(page.encode()) < 2_000_000
    assert "of 960 pictures" in page
    counts = [part.count("<figure") for part in page.split("<details")[1:]]
    assert len(counts) == 12
    assert max(counts) - min(counts) <= 1
    assert min(counts) > 5


def test_more_sections_than_fit_are_thinned_too(tiles):
    page = gallery_html("t", [Section(f"s{i} " + "x" * 2000, tiles[:1]) for i in range(900)])
    assert len(page.encode()) < 2_000_000
    assert re.search(r"Showing \d+ of 900 sections", page)


def test_unreadable_pictures_get_a_placeholder(tiles):
    page = gallery_html("t", [Section("s", [Tile(b"broken"), *tiles[:1]])])
    assert page.count("<figure") == 2


def test_empty_gallery_says_so():
    assert "Nothing to show" in gallery_html("t", [])


def test_contact_sheet_has_a_cell_a_tile_and_greys_the_dropped(tiles):
    sheet = np.asarray(contact_sheet(tiles[:25], columns=10, size=40)).astype(int)
    assert sheet.shape == (3 * (40 + 12 + 4) + 4, 10 * 44 + 4, 3)
    colour = np.ptp(sheet, axis=2)
    cells = [colour[4 : 4 + 40, 4 + 44 * i : 44 + 44 * i].max() for i in range(10)]
    assert all(cells[i] <= 2 for i in (0, 4, 8))
    assert max(cells[i] for i in (1, 2, 3)) > 60


def test_histogram_draws_both_bars_of_each_class():
    figure = class_histogram({"people": 100, "flags": 30, "food": 5}, {"people": 20, "flags": 18})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["people", "flags", "food"]
    assert [bar.get_width() for bar in axes.patches] == [100, 30, 5, 20, 18, 0]
    assert "0.62 -> 0.63" in axes.get_title()


def test_balance_is_entropy_over_its_maximum():
    assert balance({"a": 5, "b": 5}) == pytest.approx(1)
    assert balance({"a": 5}) == balance({"a": 5, "b": 0}) == balance({}) == 0
    assert balance({"a": 5, "b": 5, "c": 0}) == pytest.approx(np.log(2) / np.log(3))
    assert balance({"a": 3, "b": 1}) == pytest.approx(0.8113, abs=1e-4)


def test_pairs_stand_side_by_side_and_are_left_out_together(tiles):
    names = [f"pair{n // 2}" for n in range(12)]
    page = gallery_html("t", [Section("s", [Tile(tiles[n].image, names[n]) for n in range(12)], together=2)])
    sets = page.split('<div class="set">')[1:]
    assert len(sets) == 6 and all(text.count(f'title="pair{n}"') == 2 for n, text in enumerate(sets))
    many = gallery_html("t", [Section("s", [Tile(b"", str(n // 2)) for n in range(6001)], together=2)], size=8)
    shown = re.findall(r'title="(\d+)"', many)
    assert f"Showing {len(shown):,} of 6001".replace(",", "") in many
    assert [shown[n] for n in range(0, len(shown) - 1, 2)] == shown[1::2] and len(shown) < 6001
