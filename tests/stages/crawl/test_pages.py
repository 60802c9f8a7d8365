from stages.crawl.pages import PageImage, read_page, same_domain, same_site

URL = "https://site.org/a/b.html"


def test_images_with_captions_labels_and_absolute_addresses():
    html = b"""<!doctype html><div data-kind="birds"><p>unclosed
      <img src="x.jpg" alt=" A  crow &amp; co. "><img src="/y.png" title="title"><img src="x.jpg" alt="again"></div>
      <img data-src="//cdn.org/z.webp"><img src="data:image/png;base64,AA"><img src=""><img>
      <img data-kind=own src='q w.gif'>"""
    assert read_page(html, URL, "data-kind").images == [
        PageImage("https://site.org/a/x.jpg", "A crow & co.", "birds"),
        PageImage("https://site.org/y.png", "title", "birds"),
        PageImage("https://cdn.org/z.webp", None, None),
        PageImage("https://site.org/a/q w.gif", None, "own"),
    ]


def test_srcset_gives_its_largest_candidate():
    html = b'<img src=s.jpg srcset="s.jpg 320w, big.jpg 1280w, m.jpg 640w"><img srcset="one.png, two.png 2x">'
    assert [image.url for image in read_page(html, URL).images] == [
        "https://site.org/a/big.jpg",
        "https://site.org/a/two.png",
    ]


def test_a_figcaption_is_the_caption_where_the_image_has_none():
    html = b"<figure><img src=1><img src=2 alt=own><figcaption>Two <b>things</b></figcaption></figure><img src=3>"
    assert [image.caption for image in read_page(html, URL).images] == ["Two things", "own", None]


def test_links_follow_base_and_lose_fragments():
    html = b'<base href="/other/"><a href="p.html#top">p</a><a href="p.html">p</a><a href="mailto:x@y">m</a><a href="http://[">'
    assert read_page(html, URL).links == ["https://site.org/other/p.html"]


def test_declared_charset_and_garbage():
    assert read_page('<meta charset=latin-1><img src=a alt="é">'.encode("latin-1"), URL).images[0].caption == "é"
    assert read_page(b"<meta charset=nonsense><img src=a \xff\xfe <<<&#xFFFFFFF;", URL).images is not None


def test_same_site_is_scheme_host_and_port():
    assert same_site("http://a.org/x", "http://a.org/y?z")
    assert not same_site("http://a.org/x", "http://b.a.org/x")
    assert not same_site("http://a.org/x", "http://a.org:8080/x")


def test_a_picture_element_gives_its_largest_candidate_and_the_page_its_licence():
    html = b"""<link rel="license" href="/terms"><picture><source srcset="w.webp 800w, big.webp 1600w">
      <source type="image/svg+xml" srcset="v.svg 9999w"><img src="small.jpg" alt="Hill"></picture><img src="x.jpg">"""
    page = read_page(html, URL)
    assert page.images == [
        PageImage("https://site.org/a/big.webp", "Hill", None),
        PageImage("https://site.org/a/x.jpg", None, None),
    ]
    assert page.licence == "https://site.org/terms" and not page.links


def test_subdomains_belong_to_a_domain():
    assert same_domain("http://img.a.org/x", "http://www.a.org/") and same_domain("https://a.org/", "http://a.org/")
    assert not same_domain("http://nota.org/", "http://a.org/")
