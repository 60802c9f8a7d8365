import asyncio
import resource
import socket
import ssl
import time
from itertools import pairwise

import pytest

from stages.crawl import network as network_module
from stages.crawl.fetching import Conduct, Fetcher
from stages.crawl.hosts import Patience
from stages.crawl.network import Network, Refused
from stages.tables import read_table
from tests.stages.crawl.hostile_site import lay_out
from tests.stages.crawl.loopback import Web, picture, run_crawl

CONDUCT = Conduct(
    user_agent="testbot/1.0 (+http://example.org/bot)",
    max_bytes=1_000_000,
    concurrency=16,
    retries=2,
    patience=Patience(backoff_s=0.02, longest_backoff_s=0.05, failures=1000),
)


def fetch(urls, conduct=CONDUCT, allow=(), connect_to=None, timeout_s=1.0):
    """What came of each URL, all asked for at once."""

    async def run():
        async with Fetcher(Network(allow, connect_to, timeout_s=timeout_s), conduct) as fetcher:
            return await asyncio.gather(*(fetcher.image(url) for url in urls))

    return dict(zip(urls, asyncio.run(run()), strict=True))


def test_whatever_a_site_does_each_url_ends_with_its_reason(web):
    expected = lay_out(web)
    base = f"http://hostile.test:{web.port}"
    start = time.monotonic()
    fetched = fetch(
        [base + path for path in expected], connect_to={"hostile.test": ("127.0.0.1", web.port)}, timeout_s=1.5
    )
    reasons = {path: fetched[base + path].reason for path in expected}
    assert {path: reason for path, reason in reasons.items() if reason not in expected[path]} == {}
    assert time.monotonic() - start < 60
    assert web.asked["/private/x.png"] == web.asked["/reserved/x.png"] == 0
    assert fetched[base + "/private/x.png"].robots == "disallowed: /private"
    assert fetched[base + "/noai"].robots == "X-Robots-Tag: noai"
    assert fetched[base + "/flaky"].attempts > 1 and web.asked["/flaky"] == 3 and web.asked["/missing"] == 1
    assert all(count == 1 for count in web.rules_asked.values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000


def test_no_row_is_lost_in_a_crawl_of_a_hostile_site(web, tmp_path):
    expected = lay_out(web)
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{web.url}{path}\n" for path in expected))
    run_crawl(
        tmp_path / "work",
        sources=[str(listing)],
        allow_hosts=["127.0.0.1"],
        timeout_s=1.5,
        max_bytes=1_000_000,
        retries=0,
        max_failed_share=1.0,
        concurrency=16,
    )
    rows = read_table(tmp_path / "work", "fetches").to_pylist()
    assert sorted(row["url"].removeprefix(web.url) for row in rows) == sorted(expected)
    assert all((row["status"] == "ok") == (row["reason"] is None) for row in rows)
    opted_out = {row["url"].removeprefix(web.url) for row in rows if row["status"] == "skipped"}
    assert opted_out == {"/noai", "/tdm", "/private/x.png", "/reserved/x.png"}


def test_no_cookies_no_credentials_and_a_name_with_a_contact(web):
    seen = []

    def remember(handler):
        seen.append(dict(handler.headers))
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: id=1\r\nContent-Length: 99\r\n\r\n" + picture(1)[:99])

    web.routes["/a"] = web.routes["/b"] = remember
    base = f"//user:secret@127.0.0.1:{web.port}"
    web.redirect("/go", f"http:{base}/b")
    fetched = fetch([f"http:{base}/a", web.url + "/go"], allow=["127.0.0.1"])
    assert all(one.reason is None and "secret" not in one.final_url for one in fetched.values())
    assert len(seen) == 2 and not any("Cookie" in head or "Authorization" in head for head in seen)
    assert {head["User-Agent"] for head in seen} == {CONDUCT.user_agent}
    assert {head["Accept-Encoding"] for head in seen} == {"identity"}


def test_proxies_of_the_environment_are_not_used(web, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    url = web.image("/a.png")
    assert fetch([url], allow=["127.0.0.1"])[url].reason is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{}/a", "http://2130706433:{}/a", "http://0x7f.1:{}/a", "http://[::1]:{}/a",
            "http://[::ffff:7f00:1]:{}/a", "http://localhost:{}/a", "http://0.0.0.0:{}/a"],
)  # fmt: skip
def test_private_addresses_are_refused_whatever_their_spelling(web, url):
    web.image("/a")
    url = url.format(web.port)
    assert fetch([url])[url].reason in ("private_address", "invalid_url", "dns")
    assert not web.asked and not web.rules_asked


def _answers(monkeypatch, *answers):
    """Names resolve to these addresses, one set a look-up; the sockets that would be connected are noted."""
    left = list(answers)
    tried = []
    checked = Network._checked_socket

    def note(self, info):
        try:
            checked(self, info).close()
        except Refused:
            tried.append(f"refused {info[4][0]}")
            raise
        tried.append(info[4][0])
        raise OSError("no network in tests")

    def resolve(host, port, **_):
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *_, **__: resolve(host, port))
    monkeypatch.setattr(Network, "_checked_socket", note)
    return tried


QUICK = Conduct(robots=False, tdm=False, retries=0)


def test_a_name_that_turns_private_is_refused_where_the_socket_connects(monkeypatch):
    tried = _answers(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(network_module._Resolver, "_usable", lambda *_: True)  # the name looked public a moment ago
    assert fetch(["http://rebind.test/a"], QUICK)["http://rebind.test/a"].reason == "private_address"
    assert tried == ["refused 127.0.0.1"]


def test_of_mixed_addresses_only_the_public_ones_are_tried(monkeypatch):
    tried = _answers(monkeypatch, ["10.0.0.1", "93.184.216.34", "169.254.169.254"])
    assert fetch(["http://mixed.test/a"], QUICK)["http://mixed.test/a"].reason == "connect"
    assert set(tried) == {"93.184.216.34"}


def test_robots_are_asked_again_in_another_crawl_and_may_have_changed(web):
    url = web.image("/a.png")
    web.routes["/robots.txt"] = (200, {}, b"User-agent: testbot\nDisallow: /\n")
    assert fetch([url], allow=["127.0.0.1"])[url].reason == "robots_disallowed"
    web.routes["/robots.txt"] = (200, {}, b"User-agent: testbot\nDisallow:\n")
    assert fetch([url], allow=["127.0.0.1"])[url].reason is None


@pytest.mark.parametrize(
    ("answer", "reason", "evidence"),
    [
        ((404, {}, b""), None, "allowed: no robots.txt"),
        ((403, {}, b""), None, "allowed: no robots.txt"),
        ((503, {}, b""), "robots_unreachable", "unreachable: http_503"),
        ((200, {"X-Robots-Tag": "noindex"}, b"User-agent: *\nDisallow: /"), "robots_disallowed", "disallowed: /"),
        ((302, {"Location": "/moved.txt"}, b""), "robots_disallowed", "disallowed: /a"),
        ((302, {"Location": "/robots.txt"}, b""), None, "allowed: no robots.txt"),
        ((200, {}, b"User-agent: *\nCrawl-delay: 86400"), "robots_disallowed", "disallowed: crawl-delay 86400 s"),
        ((200, {"Content-Encoding": "br"}, b"xxxxxxxx"), "robots_unreachable", "unreachable: content_encoding"),
        (lambda handler: time.sleep(1.5), "robots_unreachable", "unreachable: timeout"),
    ],
)
def test_how_robots_txt_answers_decides(web, answer, reason, evidence):
    url = web.image("/a.png")
    web.routes["/robots.txt"] = answer
    web.routes["/moved.txt"] = (200, {}, b"User-agent: *\nDisallow: /a\n")
    conduct = Conduct(retries=0)
    fetched = fetch([url], conduct, allow=["127.0.0.1"])[url]
    assert (fetched.reason, fetched.robots) == (reason, evidence)
    assert bool(web.asked["/a.png"]) is (reason is None)


def test_a_redirect_heeds_the_rules_of_the_host_that_it_leads_to(web):
    other = Web()
    other.image("/b.png")
    other.routes["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /b\n")
    url = web.redirect("/a.png", f"http://other.test:{other.port}/b.png")
    fetched = fetch([url], allow=["127.0.0.1"], connect_to={"other.test": ("127.0.0.1", other.port)})[url]
    other.close()
    assert fetched.reason == "robots_disallowed" and not other.asked
    assert fetched.final_url == f"http://other.test:{other.port}/b.png"


def test_a_crawl_delay_is_kept(web):
    moments = []

    def note(handler):
        moments.append(time.monotonic())
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + picture(1)[:99])

    web.routes["/robots.txt"] = (200, {}, b"User-agent: *\nCrawl-delay: 0.3\n")
    urls = [f"{web.url}/{n}" for n in range(4)]
    web.routes.update({f"/{n}": note for n in range(4)})
    fetch(urls, allow=["127.0.0.1"])
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert len(moments) == 4 and min(gaps) > 0.15 and sum(gaps) > 0.85


def test_a_tls_error_is_told_from_a_closed_port(web):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    no_tls, nobody = f"https://127.0.0.1:{web.port}/a", f"http://127.0.0.1:{port}/a"
    fetched = fetch([no_tls, nobody], allow=["127.0.0.1"])
    assert (fetched[no_tls].reason, fetched[nobody].reason) == ("tls", "connect")


def test_a_certificate_that_nobody_signed_is_refused(tmp_path):
    pem = _self_signed(tmp_path / "site.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    web = Web(context)
    url = f"https://127.0.0.1:{web.port}/a"
    reason = fetch([url], allow=["127.0.0.1"])[url].reason
    web.close()
    assert reason == "tls"


def _self_signed(path):
    pytest.importorskip("cryptography")
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_host_that_keeps_failing_is_given_up_and_others_are_not(web):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
    urls = [f"http://dead.test:{dead}/{n}" for n in range(200)] + [web.image(f"/{n}.png", n) for n in range(20)]
    conduct = Conduct(
        retries=1, patience=Patience(backoff_s=0.01, longest_backoff_s=0.02, failures=5, pause_s=0.05, openings=2)
    )
    fetched = fetch(urls, conduct, allow=["127.0.0.1"], connect_to={"dead.test": ("127.0.0.1", dead)})
    reasons = [fetched[url].reason for url in urls]
    assert reasons[200:] == [None] * 20
    assert set(reasons[:200]) <= {"connect", "host_down"} and reasons[:200].count("host_down") > 100


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_urls_of_one_host_do_not_hold_up_another(web, tmp_path, count):
    web.image("/last.png")
    listing = tmp_path / "list.txt"
    many = [f"http://localhost:{web.port}/{n}.png" for n in range(count)]
    listing.write_text("\n".join([*many, web.url + "/last.png"]))
    result = run_crawl(
        tmp_path / "work", sources=[str(listing)], allow_hosts=["127.0.0.1", "localhost"], timeout_s=5.0, retries=0,
        max_failed_share=1.0,
    )  # fmt: skip
    assert result.rows_in == count + 1 and result.rows_out == 1
