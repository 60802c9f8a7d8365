import gzip
import json

import pytest

from stages.base import StageError
from stages.crawl.sources import UrlListSource
from stages.crawl.url_lists import list_digest, list_targets


def _read(path, text, **columns):
    path.write_text(text, encoding="utf-8")
    return [
        (target.url, target.caption, target.label, target.outcome)
        for target in list_targets(UrlListSource(urls=str(path), **columns), "list")
    ]


def test_plain_lines(tmp_path):
    rows = _read(tmp_path / "a.txt", "\ufeff# mine\nhttp://a/1.png\n\n  http://a/2.png  \n")
    assert [row[0] for row in rows] == ["http://a/1.png", "http://a/2.png"]


@pytest.mark.parametrize(("suffix", "comma"), [("csv", ","), ("tsv", "\t")])
def test_columns(tmp_path, suffix, comma):
    lines = [
        ("link", "text", "label"),
        ("http://a/1.png", '"two\nlines"', "x"),
        ("", "no url", "y"),
        ("http://a/2.png",),
    ]
    rows = _read(
        tmp_path / f"a.{suffix}",
        "\n".join(comma.join(line) for line in lines),
        url_column="link",
        caption_column="text",
    )
    assert rows[0] == ("http://a/1.png", "two\nlines", "x", None)
    assert rows[1][3] == "failed:no_url"
    assert rows[2] == ("http://a/2.png", None, None, None)


def test_json_lines(tmp_path):
    text = "\n".join([json.dumps({"url": "http://a/1", "caption": 7}), "", json.dumps({"url": None})])
    rows = _read(tmp_path / "a.jsonl", text)
    assert rows[0][:2] == ("http://a/1", "7") and rows[1][3] == "failed:no_url"


def test_mistakes_say_what_to_do(tmp_path):
    with pytest.raises(StageError, match=r"no column 'url'.*link, text"):
        _read(tmp_path / "a.csv", "link,text\nx,y\n")
    with pytest.raises(StageError, match="line 2 is not a JSON object"):
        _read(tmp_path / "a.jsonl", '{"url": "http://a"}\n[1]\n')
    (tmp_path / "b.txt").write_bytes(gzip.compress(b"http://a\n" * 50))
    with pytest.raises(StageError, match="UTF-8"):
        list(list_targets(UrlListSource(urls=str(tmp_path / "b.txt")), "list"))
    with pytest.raises(StageError, match="cannot be read"):
        list_digest(str(tmp_path / "missing.txt"))
