import pytest
from pydantic import ValidationError

from stages.crawl import Crawl, CrawlParams
from stages.crawl.sources import (
    DemoSource,
    FolderSource,
    PageSource,
    SitemapSource,
    UrlListSource,
    WebDatasetSource,
)


def _only(source):
    (found,) = CrawlParams(sources=[source]).sources
    return found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("~/Pictures", FolderSource), ("list.csv", UrlListSource), ("list.csv.gz", UrlListSource),
        ("data/train-*.parquet", UrlListSource), ("s3://bucket/laion.parquet", UrlListSource),
        ("set.arrow", UrlListSource), ("https://example.org/a", PageSource),
        ("https://example.org/sitemap.xml.gz", SitemapSource), ("demo:openmoji", DemoSource),
        ("shards/{000..099}.tar", WebDatasetSource), ("x.tar.gz", WebDatasetSource),
        ("gs://bucket/pics", FolderSource), ("memory://pics", FolderSource), ("file:///pics", FolderSource),
    ],
)  # fmt: skip
def test_the_type_of_a_plain_string_is_detected(text, kind):
    assert type(_only(text)) is kind


def test_local_paths_become_absolute_and_folders_win_over_suffixes(tmp_path):
    (tmp_path / "odd.txt").mkdir()
    assert isinstance(_only(str(tmp_path / "odd.txt")), FolderSource)
    assert _only("~/Pictures").folder.startswith("/") and _only("file:///pics").folder == "/pics"


def test_a_folder_of_nothing_but_tables_or_tar_files_is_a_data_set(tmp_path):
    for name in ("tables", "tars", "mixed"):
        (tmp_path / name).mkdir()
    for path in ("tables/a.parquet", "tables/README.md", "tars/0.tar", "mixed/a.parquet", "mixed/b.jpg"):
        (tmp_path / path).touch()
    assert _only(str(tmp_path / "tables")).urls == f"{tmp_path}/tables/"
    assert isinstance(_only(str(tmp_path / "tars")), WebDatasetSource)
    assert isinstance(_only(str(tmp_path / "mixed")), FolderSource)


def test_a_mapping_names_its_place_type_name_weight_and_licence():
    source = _only({"path": "a.csv", "name": "mine", "weight": 3, "licence": "CC0", "columns": {"url": "u"}})
    assert isinstance(source, UrlListSource)
    assert (source.name, source.weight, source.licence, source.columns.url) == ("mine", 3.0, "CC0", "u")
    assert isinstance(_only({"url": "https://example.org/list", "type": "sitemap"}), SitemapSource)
    assert isinstance(_only({"path": "weird-name", "type": "webdataset"}), WebDatasetSource)


def test_the_plan_says_the_type_of_each_source_with_licence_and_weight():
    sources = [
        "/pics", {"path": "/lists/a.csv", "licence": "CC0", "weight": 2}, "https://example.org/sitemap.xml",
        {"path": "/odd", "type": "webdataset", "name": "mine"},
    ]  # fmt: skip
    assert Crawl(CrawlParams(sources=sources)).remarks() == [
        "pics: folder (a folder of pictures) at /pics",
        "a: urls (a table of URLs, or of pictures in it) at /lists/a.csv, licence CC0, weight 2",
        "example.org: sitemap (a sitemap of pages and pictures) at https://example.org/sitemap.xml",
        "mine: webdataset (tar files of samples) at /odd",
    ]


def test_dumped_parameters_validate_to_the_same_parameters(tmp_path):
    (tmp_path / "a.parquet").touch()
    params = CrawlParams(
        sources=["pics", {"urls": "a.jsonl", "columns": {"url": "u", "metadata": ["x"]}}, "http://example.org",
                 str(tmp_path), "memory://x/y.tar", {"sitemap": "http://example.org/s"}],
        retry=["dns", "timeout"], takedown=["example.org"],
    )  # fmt: skip
    assert CrawlParams.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"foldr": "x"}, "exactly one of: folder"),
        ({"folder": "x", "urls": "y.txt"}, "exactly one of: folder"),
        ("nonsense://bucket/x", "no file system that can be read"),
        ({"folder": "https://example.org"}, "no file system that can be read"),
        ("ftp://example.org/x", "can be crawled"),
        ({"urls": "list.xlsx"}, ".txt, .csv, .tsv"),
        ({"pages": "ftp://example.org"}, "not an http:// or https:// address"),
        ({"sitemap": "file:///etc/passwd"}, "not an http:// or https:// address"),
        ({"path": "x", "type": "nothing"}, "no type of source"),
        ({"demo": "nothing"}, "openmoji"),
        ({"folder": "x", "depth": 3}, "Extra inputs"),
        ({"folder": "x", "weight": 0}, "greater than 0"),
        (7, "exactly one of: folder"),
    ],
)
def test_a_wrong_source_is_refused_with_what_is_allowed(source, says):
    with pytest.raises(ValidationError) as error:
        CrawlParams(sources=[source])
    assert says in str(error.value)


def test_names_are_unique_and_stable():
    params = CrawlParams(sources=["/a/pics", "/b/pics", {"folder": "/c", "name": "pics-2"}])
    assert list(params.named_sources()) == ["pics", "pics-3", "pics-2"]
    with pytest.raises(ValidationError, match="named 'x'"):
        CrawlParams(sources=[{"folder": "/a", "name": "x"}, {"folder": "/b", "name": "x"}])


def test_classes_of_failures_are_checked():
    assert CrawlParams(sources=["/a"], retry=["timeout", "http_5xx", "transient", "dns"]).retry == (
        "dns", "http_5xx", "timeout", "transient",
    )  # fmt: skip
    with pytest.raises(ValidationError, match="'tiemout' is no class of failures"):
        CrawlParams(sources=["/a"], retry=["tiemout"])
