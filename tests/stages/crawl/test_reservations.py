import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.crawl.reservations import OptOuts, TdmFile

OPT_OUTS = OptOuts("curatrain", frozenset({"noai", "noimageai", "noml", "noindex"}), tdm=True)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["noai"], "noai"), (["nofollow, NoImageAI"], "noimageai"), (["curatrain: noml"], "noml"),
        (["otherbot: noml"], None), (["max-snippet: 20, noindex"], "noindex"), (["none"], "none"), (["all"], None),
        (["nosnippet", "noindex"], "noindex"), (["unavailable_after: 25 Jun 2030 15:00:00 PST"], None), ([], None),
    ],
)  # fmt: skip
def test_robots_tags(tags, found):
    refused = OPT_OUTS.of_headers(tags, None)
    assert refused == (found and f"X-Robots-Tag: {found}")


def test_a_tdm_reservation_counts_only_where_it_is_heeded():
    assert OPT_OUTS.of_headers([], "1") == "tdm-reservation: 1"
    assert OPT_OUTS.of_headers([], "0") is None
    assert OptOuts("x", frozenset(), tdm=False).of_headers(["noai"], "1") is None


@pytest.mark.parametrize(
    ("html", "found"),
    [
        (b'<meta name="robots" content="noai, nofollow">', "meta robots: noai"),
        (b"<META NAME=Curatrain CONTENT=noimageai>", "meta curatrain: noimageai"),
        (b'<meta name="otherbot" content="noai">', None),
        (b'<meta name="tdm-reservation" content="1">', "meta tdm-reservation: 1"),
        (b"<p>noai</p>", None),
    ],
)
def test_meta_tags(html, found):
    assert OPT_OUTS.of_page(b"<!doctype html><head>" + html) == found


def test_locations_of_a_tdm_file_the_longest_decides():
    file = TdmFile(
        json.dumps(
            [
                {"location": "/*", "tdm-reservation": 1},
                {"location": "/free/", "tdm-reservation": 0},
                {"location": "/free/*.png$", "tdm-reservation": "1"},
                {"tdm-reservation": 1},
                7,
            ]
        ).encode()
    )
    assert [file.reserves(f"http://x{path}") for path in ("/a", "/free/a.jpg", "/free/a.png")] == [True, False, True]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_tdm_file_and_a_page(data):
    assert TdmFile(data).reserves("http://x/a") is TdmFile(data).reserves("http://x/a")
    assert OPT_OUTS.of_page(data) == OPT_OUTS.of_page(data)
