import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.crawl.robots import MAX_BYTES, matches, parse

SIMPLE = b"""User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


def _allowed(text, agent, path):
    return parse(text, agent).verdict("http://example.com" + path).allowed


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("somebot", "/a.gif", False), ("somebot", "/a.gif?size=1", True), ("somebot", "/example/x", False),
        ("somebot", "/publications/x", True), ("foobot", "/", False), ("foobot", "/example/page.html", True),
        ("FooBot/2.1 (+http://x)", "/publications/", False), ("foobot", "/example/allowed.gif", True),
        ("barbot", "/example/page.html", False), ("bazbot", "/example/page.html", False), ("bazbot", "/a.gif", True),
        ("quxbot", "/example/", True), ("foobotnews", "/a.gif", False), ("foobot", "/robots.txt", True),
    ],
)  # fmt: skip
def test_the_simple_example_of_the_rfc(agent, path, allowed):
    assert _allowed(SIMPLE, agent, path) is allowed


def test_the_longest_match_decides_and_of_equals_the_one_that_allows():
    text = b"User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n"
    robots = parse(text, "foobot")
    verdict = robots.verdict("http://example.com/example/page/disallowed.gif")
    assert not verdict.allowed and verdict.rule.pattern == "/example/page/disallowed.gif"
    assert robots.verdict("http://example.com/example/page/").allowed
    assert _allowed(b"User-agent: *\nDisallow: /a\nAllow: /a\n", "x", "/ab")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz"),
        ("/foo/bar?baz=https://foo.bar", "/foo/bar?baz=https%3A%2F%2Ffoo.bar"),
        ("/foo/bar/ツ", "/foo/bar/%E3%83%84"),
        ("/foo/bar/%E3%83%84", "/foo/bar/%e3%83%84"),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz"),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-%2A.html"),
    ],
)
def test_octets_are_compared_whatever_their_encoding(pattern, path):
    text = f"User-agent: *\nDisallow: {pattern}\n".encode()
    assert not _allowed(text, "x", path)
    assert _allowed(text, "x", "/foo/other")


def test_an_escaped_slash_of_a_path_is_no_slash():
    assert _allowed(b"User-agent: *\nDisallow: /a/b\n", "x", "/a%2Fb")


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("/fish", "/fish.html", True), ("/fish", "/Fish", False), ("/fish*", "/fishheads", True), ("/", "/x", True),
        ("/*.php", "/a/b.php?x", True), ("/*.php$", "/b.php?x", False), ("/*.php$", "/b.php", True),
        ("/fish*.php", "/fish/a.php5", True), ("/a$", "/a", True), ("/a$", "/ab", False), ("*", "/x", True),
        ("/*a*b$", "/ab", True), ("/*ab*ab$", "/ab", False), ("/x*$", "/xyz", True), ("/$", "/", True),
    ],
)  # fmt: skip
def test_wildcards(pattern, path, found):
    assert matches(pattern, path) is found


@given(st.text("ab*$", max_size=8), st.text("ab", max_size=10))
def test_wildcards_agree_with_an_exhaustive_matcher(pattern, path):
    def match(p, s):
        if not p:
            return True
        if p == "$":
            return not s
        if p[0] == "*":
            return match(p[1:], s) or (bool(s) and match(p, s[1:]))
        return bool(s) and p[0] == s[0] and match(p[1:], s[1:])

    assert matches(pattern, path) is match(pattern, path)


def test_groups_for_the_same_crawler_are_joined_and_odd_lines_do_no_harm():
    text = (
        b"\xef\xbb\xbfuser-agent : A-Bot # me\r\nDISALLOW : /one # no\rCrawl-delay: 2.5\nnonsense\nDisallow\n"
        b"Sitemap: http://x/map.xml\n\nUser-agent: *\nDisallow: /\n\nuser-agent: a-bot\ndisallow: /two\n"
    )
    robots = parse(text, "A-Bot/1.0")
    assert [robots.verdict(f"http://x{path}").allowed for path in ("/one", "/two", "/three")] == [False, False, True]
    assert robots.crawl_delay == 2.5 and robots.sitemaps == ("http://x/map.xml",)


def test_what_comes_after_the_size_limit_is_ignored():
    text = b"User-agent: *\n" + b"#" * MAX_BYTES + b"\nDisallow: /\n"
    assert _allowed(text, "x", "/a")


@pytest.mark.timeout(60)  # a matcher that tries every way to split the path takes for ever
def test_a_hostile_file_is_matched_in_linear_time():
    text = b"User-agent: *\n" + b"".join(b"Disallow: /" + b"*a" * 40 + b"%d$\n" % n for n in range(5000))
    robots = parse(text, "x")
    assert robots.verdict("http://x/" + "a" * 4000).allowed


@given(st.binary(max_size=300))
def test_any_bytes_are_a_robots_txt(text):
    verdict = parse(b"User-agent: *\nDisallow: /" + text, "x").verdict("http://x/abc")
    assert verdict.allowed in (True, False)
