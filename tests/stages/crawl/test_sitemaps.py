import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import StageError
from stages.crawl.sitemaps import MAX_BYTES, SitemapImage, read_sitemap
from stages.tables import read_table
from tests.stages.crawl.loopback import run_crawl

URL = "https://site.org/sitemap.xml"
_NS = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"'
)


def test_pages_and_pictures():
    xml = f"""<?xml version="1.0"?><urlset {_NS}>
      <url><loc> https://site.org/a </loc><image:image><image:loc>https://cdn.org/1.jpg</image:loc>
        <image:caption>One &amp; only</image:caption><image:license>https://cc.org/by</image:license></image:image>
        <image:image><image:loc>/2.jpg</image:loc><image:title>Two</image:title></image:image></url>
      <url><loc>ftp://site.org/b</loc></url><url><lastmod>2020</lastmod></url></urlset>""".encode()
    found = read_sitemap(xml, URL)
    assert found.pages == ["https://site.org/a"] and not found.sitemaps
    assert found.images == [
        SitemapImage("https://cdn.org/1.jpg", "https://site.org/a", "One & only", "https://cc.org/by"),
        SitemapImage("https://site.org/2.jpg", "https://site.org/a", "Two", None),
    ]
    assert read_sitemap(gzip.compress(xml), URL) == found


def test_an_index_and_plain_text():
    index = f"<sitemapindex {_NS}><sitemap><loc>https://site.org/1.xml</loc></sitemap></sitemapindex>".encode()
    assert read_sitemap(index, URL).sitemaps == ["https://site.org/1.xml"]
    assert read_sitemap(b"https://site.org/a\n\nnonsense\nhttps://site.org/b", URL).pages == [
        "https://site.org/a",
        "https://site.org/b",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><urlset>&a;</urlset>", b"<html><body>no</body></html>",
        b"<urlset><url>", b"\x1f\x8bbroken", gzip.compress(b" " * (MAX_BYTES + 1)),
    ],
    ids=["entities", "page", "cut", "gzip", "bomb"],
)  # fmt: skip
def test_what_is_no_sitemap_is_refused(body):
    with pytest.raises(ValueError, match=r"is no sitemap|document type|no XML|no gzip|more than"):
        read_sitemap(body, URL)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body):
    try:
        found = read_sitemap(b"<urlset>" + body, URL)
    except ValueError as refusal:
        assert str(refusal)
    else:
        assert found is not None


def _serve(web):
    web.routes["/sitemap.xml"] = (
        200, {}, f"<sitemapindex {_NS}><sitemap><loc>{web.url}/1.xml.gz</loc></sitemap><sitemap><loc>{web.url}"
        f"/gone.xml</loc></sitemap><sitemap><loc>{web.url}/sitemap.xml</loc></sitemap></sitemapindex>".encode(),
    )  # fmt: skip
    pages = "".join(f"<url><loc>{web.url}/page-{n}</loc></url>" for n in range(4))
    listed = f"<url><loc>{web.url}/page-0</loc><image:image><image:loc>{web.image('/listed.png', 9)}</image:loc>"
    body = f"<urlset {_NS}>{pages}{listed}</image:image></url><url><loc>http://other.test/</loc></url></urlset>"
    web.routes["/1.xml.gz"] = (200, {"Content-Type": "application/gzip"}, gzip.compress(body.encode()))
    for number in range(4):
        web.image(f"/{number}.png", number)
        html = f'<link rel="license" href="/licence"><img src="/{number}.png" alt="n {number}"><a href="/deep">d</a>'
        web.routes[f"/page-{number}"] = (200, {"Content-Type": "text/html"}, html.encode())


def test_a_site_is_crawled_by_its_sitemap(web, tmp_path):
    _serve(web)
    result = run_crawl(tmp_path / "a", sources=[f"{web.url}/sitemap.xml"], allow_hosts=["127.0.0.1"])
    rows = {row["url"].removeprefix(web.url): row for row in read_table(tmp_path / "a", "fetches").to_pylist()}
    assert result.rows_out == 5 and rows["/2.png"]["caption"] == "n 2"
    assert rows["/2.png"]["licence"] == f"{web.url}/licence" and rows["/2.png"]["page_url"] == f"{web.url}/page-2"
    assert rows["/gone.xml"]["reason"] == "http_404" and "/deep" not in web.asked
    assert rows["/listed.png"]["page_url"] == f"{web.url}/page-0" and "http://other.test/" not in rows


def test_limits_by_pages_and_hosts(web, tmp_path):
    _serve(web)
    site = {"sitemap": f"{web.url}/sitemap.xml"}
    run = {"allow_hosts": ["127.0.0.1"]}
    assert run_crawl(tmp_path / "a", sources=[{**site, "max_pages_per_host": 2}], **run).rows_out == 3
    assert run_crawl(tmp_path / "b", sources=[{**site, "max_images_per_host": 2}], **run).rows_out == 2
    assert run_crawl(tmp_path / "c", sources=[{**site, "max_pages": 1}], **run).rows_out == 2


def test_a_sitemap_that_is_none_stops_the_stage(web, tmp_path):
    web.routes["/sitemap.xml"] = (200, {}, b"<html></html>")
    with pytest.raises(StageError, match="not_sitemap"):
        run_crawl(tmp_path / "a", sources=[f"{web.url}/sitemap.xml"], allow_hosts=["127.0.0.1"])
