import pytest
from pydantic import ValidationError

from stages.crawl import CrawlParams
from stages.crawl.sources import DemoSource, FolderSource, PageSource, UrlListSource


def test_the_type_of_a_plain_string_is_detected(tmp_path):
    (tmp_path / "odd.txt").mkdir()
    params = CrawlParams(
        sources=["~/Pictures", "list.csv", "https://example.org/a", "demo:openmoji", str(tmp_path / "odd.txt")]
    )
    kinds = [type(source) for source in params.sources]
    assert kinds == [FolderSource, UrlListSource, PageSource, DemoSource, FolderSource]
    assert params.sources[0].folder.startswith("/") and params.sources[0].folder.endswith("/Pictures")


def test_dumped_parameters_validate_to_the_same_parameters():
    params = CrawlParams(sources=["pics", {"urls": "a.jsonl", "url_column": "u"}, "http://example.org"])
    assert CrawlParams.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"foldr": "x"}, "exactly one of: folder"),
        ({"folder": "x", "urls": "y.txt"}, "exactly one of: folder"),
        ("s3://bucket/x", "only http://"),
        ({"urls": "list.parquet"}, ".txt, .csv, .tsv, .jsonl"),
        ({"pages": "ftp://example.org"}, "not an http:// or https:// address"),
        ({"demo": "nothing"}, "openmoji"),
        ({"folder": "x", "depth": 3}, "Extra inputs"),
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
