"""Fetching from loopback: what is kept, what is dropped and why, where redirects lead."""

import gzip
import zlib
from collections import Counter

import pytest

TEXT = "<html><p>\u6625\u7720\u4e0d\u89c9\u6653, it is the east.</p></html>".encode()


def test_pages_are_kept_and_the_others_counted(run, site, answer):
    body = b"<p>caf\xe9</p>"
    site.routes = {
        "/a": answer(TEXT, "text/html; charset=utf-8"),
        "/b": answer(body, "Text/HTML;charset=ISO-8859-1"),
        "/c": answer(b"%PDF-1.7", "application/pdf"),
        "/picture": answer(b"png", "image/png"),
        "/none": answer(b"?", ""),
        "/gone": answer(b"x", status="410 Gone"),
        "/broken": answer(b"x", status="500 Internal Server Error"),
        "/empty": answer(b""),
        "/no-content": answer(b"", status="204 No Content"),
    }
    paths = [*site.routes, "/missing"]
    counts, pages, outcomes = run(*(site.url + path for path in paths))
    assert counts.n_kept == 3
    assert {path: outcomes[site.url + path] for path in paths} == {
        "/a": "kept",
        "/b": "kept",
        "/c": "kept",
        "/picture": "content type",
        "/none": "content type",
        "/gone": "HTTP 410",
        "/broken": "HTTP 500",
        "/empty": "empty",
        "/no-content": "HTTP 204",
        "/missing": "HTTP 404",
    }
    assert pages[f"{site.url}/a"].body == TEXT
    assert pages[f"{site.url}/b"].body == body
    assert pages[f"{site.url}/b"].charset == "iso-8859-1"
    assert counts.kept_bytes == len(TEXT) + len(body) + 8
    assert Counter(site.paths) == Counter(paths)


def test_each_address_is_asked_for_once(run, site, answer):
    site.routes["/a?x=1"] = answer(TEXT)
    url = f"{site.url}/a?x=1"
    counts, *_ = run(url, f"{url}#part", url, f"{url}&utm_source=rss", "mailto:me", "")
    assert (counts.n_in, counts.n_kept) == (5, 1)
    assert counts.dropped == {"duplicate": 3, "no address": 1}
    assert site.paths == ["/a?x=1"]


def test_what_servers_are_told(run, site, answer):
    site.routes["/a"] = answer(TEXT, Set_Cookie="a=1")
    site.routes["/b"] = answer(TEXT, Set_Cookie="b=2")
    run(f"{site.url}/a", f"{site.url}/b", host_connections=1)
    for _, _, headers in site.requests:
        assert headers["user-agent"].startswith("scratchlm/")
        assert headers["user-agent"].endswith(" (+https://example.org/bot)")
        assert "gzip" in headers["accept-encoding"]
        assert headers["host"] == f"127.0.0.1:{site.port}"
        assert not {"cookie", "authorization", "referer"} & set(headers)


def test_proxies_of_the_environment_are_not_used(run, site, answer, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.routes["/a"] = answer(TEXT)
    assert run(f"{site.url}/a").counts.n_kept == 1


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("x-gzip", gzip.compress),
        ("identity", bytes),
    ],
)
def test_compressed_pages_are_read_decoded(run, site, answer, encoding, pack):
    site.routes["/a"] = answer(pack(TEXT), Content_Encoding=encoding)
    _, pages, _ = run(f"{site.url}/a")
    assert pages[f"{site.url}/a"].body == TEXT


def test_chunks_and_bodies_that_end_with_the_connection(run, site):
    def chunks(handler) -> None:
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for byte in TEXT:
            handler.wfile.write(b"1\r\n%c\r\n" % byte)
        handler.wfile.write(b"0\r\n\r\n")

    site.routes["/chunks"] = chunks
    site.routes["/end"] = lambda handler: handler.wfile.write(
        b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + TEXT
    )
    _, pages, _ = run(f"{site.url}/chunks", f"{site.url}/end")
    assert [page.body for page in pages.values()] == [TEXT, TEXT]


def test_chinese_addresses(run, site, answer):
    site.routes["/%E4%BD%A0%E5%A5%BD?q=%E6%9D%8E"] = answer(TEXT)
    site.routes["/%C4%E3"] = answer(TEXT)
    counts, pages, _ = run(
        f"{site.url}/\u4f60\u597d?q=\u674e",
        f"{site.url}/" + b"\xc4\xe3".decode("utf-8", "surrogateescape"),
    )
    assert counts.n_kept == 2
    assert f"{site.url}/%E4%BD%A0%E5%A5%BD?q=%E6%9D%8E" in pages


def moved(answer, target: str, status: str = "302 Found", body: bytes = b"moved") -> bytes:
    return answer(body, "text/html", status=status, Location=target)


@pytest.mark.parametrize("status", ["301 a", "302 b", "303 c", "307 d", "308 e"])
def test_redirects_are_followed(run, site, answer, status):
    site.routes["/old"] = moved(answer, "new/?a=b#part", status)
    site.routes["/new/?a=b"] = answer(TEXT)
    counts, pages, _ = run(f"{site.url}/old")
    assert counts.n_kept == 1
    assert pages[f"{site.url}/new/?a=b"].body == TEXT


def test_redirects_that_lead_nowhere(run, site, answer):
    bad = {
        "/none": answer(b"", status="302 Found"),
        "/mail": moved(answer, "mailto:me"),
        "/script": moved(answer, "javascript:alert(1)"),
        "/file": moved(answer, "file:///etc/passwd"),
        "/user": moved(answer, f"http://me:pw{'@'}127.0.0.1:{site.port}/a"),
        "/host": moved(answer, "http://[::1/"),
        "/long": moved(answer, "/" + "x" * 8050),
    }
    loops = {
        "/loop": moved(answer, "/loop"),
        "/to": moved(answer, "/fro"),
        "/fro": moved(answer, "/to"),
    }
    chain = {f"/{n}": moved(answer, f"/{n + 1}") for n in range(7)}
    site.routes = {**bad, **loops, **chain, "/7": answer(TEXT)}
    starts = [*bad, "/loop", "/to", "/0", "/port"]
    site.routes["/port"] = moved(answer, "http://127.0.0.1:25/")
    _, pages, outcomes = run(*(site.url + path for path in starts))
    assert not pages
    expected = dict.fromkeys(bad, "bad redirect")
    expected |= dict.fromkeys(loops, "redirect loop")
    expected |= {"/0": "too many redirects", "/port": "bad port"}
    assert {path: outcomes[site.url + path] for path in starts} == {p: expected[p] for p in starts}
    assert "/6" not in site.paths


def test_five_redirects_are_not_too_many(run, site, answer):
    site.routes = {f"/{n}": moved(answer, f"/{n + 1}") for n in range(5)}
    site.routes["/5"] = answer(TEXT)
    assert run(f"{site.url}/0").counts.n_kept == 1


def test_a_page_is_not_kept_again_by_a_redirect(run, site, answer):
    site.routes = {"/a": answer(TEXT), "/new": answer(TEXT)}
    for path in ("/b", "/c"):
        site.routes[path] = moved(answer, "/a")
    for path in ("/d", "/e", "/f"):
        site.routes[path] = moved(answer, "/new")
    counts, pages, _ = run(*(site.url + path for path in ("/b", "/a", "/c", "/d", "/e", "/f")))
    assert sorted(pages) == [f"{site.url}/a", f"{site.url}/new"]
    assert counts.dropped == {"redirect to a known page": 4}
    assert Counter(site.paths)["/a"] == Counter(site.paths)["/new"] == 1


def test_locations_in_any_bytes(run, site, answer):
    raw = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
    site.routes = {
        "/latin": raw % b"/caf\xe9 au lait",
        "/utf8": raw % "/\u4f60".encode(),
        "/caf%E9%20au%20lait": answer(TEXT),
        "/%E4%BD%A0": answer(TEXT),
    }
    assert run(f"{site.url}/latin", f"{site.url}/utf8").counts.n_kept == 2


def test_a_redirect_to_another_site_asks_its_robots(run, site, make_site, answer):
    other = make_site()
    other.routes["/robots.txt"] = answer(b"User-agent: *\nDisallow: /no", "text/plain")
    other.routes["/yes"] = other.routes["/no"] = answer(TEXT)
    for path in ("/yes", "/no"):
        site.routes[path] = moved(answer, other.url + path)
    counts, pages, outcomes = run(f"{site.url}/yes", f"{site.url}/no")
    assert list(pages) == [f"{other.url}/yes"]
    assert outcomes[f"{site.url}/no"] == "robots.txt"
    assert other.paths == ["/yes"]
    assert counts.n_kept == 1
