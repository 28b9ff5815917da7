"""Servers that mean harm: each costs its own page, in bounded time and memory, and no other."""

import gzip
import os
import socket
import time
import zlib
from collections.abc import Callable

import pytest

TEXT = b"<html><p>it is the east.</p></html>"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = b"Content-Encoding: gzip\r\n\r\n"


def endless(handler) -> None:
    handler.wfile.write(HEAD + b"\r\n")
    while True:
        handler.wfile.write(bytes(1 << 16))


def endless_chunks(handler) -> None:
    handler.wfile.write(CHUNKED)
    while True:
        handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")


def drip(handler) -> None:
    handler.wfile.write(HEAD + b"\r\n")
    while True:
        time.sleep(0.05)
        handler.wfile.write(b"x")


def drip_headers(handler) -> None:
    handler.wfile.write(HEAD)
    while True:
        time.sleep(0.02)
        handler.wfile.write(b"X-%d: y\r\n" % time.monotonic_ns())


def flood_headers(handler) -> None:
    handler.wfile.write(HEAD)
    while True:
        handler.wfile.write(b"X-Header: " + b"y" * 1000 + b"\r\n")


def one_long_header(handler) -> None:
    handler.wfile.write(HEAD + b"X-Header: ")
    while True:
        handler.wfile.write(b"y" * 1000)


def endless_continues(handler) -> None:
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.001)


def silence(_handler) -> None:
    time.sleep(1.5)


def reset(handler) -> None:
    handler.wfile.write(HEAD)
    linger = b"\1\0\0\0\0\0\0\0"
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def write(content: bytes) -> Callable:
    return lambda handler: handler.wfile.write(content)


HOSTILE = {
    "endless": (endless, "too large"),
    "endless chunks": (endless_chunks, "too large"),
    "drip": (drip, "timeout"),
    "drip of headers": (drip_headers, "timeout"),
    "flood of headers": (flood_headers, "not HTTP"),
    "one long header": (one_long_header, "not HTTP"),
    "endless continues": (endless_continues, "timeout"),
    "silence": (silence, "timeout"),
    "reset": (reset, "broken off"),
    "no answer": (write(b""), "broken off"),
    "no HTTP": (write(b"SSH-2.0-OpenSSH_9.0\r\n"), "not HTTP"),
    "binary": (write(bytes(range(256))), "not HTTP"),
    "length too large": (write(HEAD + b"Content-Length: 900\r\n\r\nshort"), "broken off"),
    "length of 30 digits": (write(HEAD + b"Content-Length: %030d\r\n\r\n" % 10**29), "not HTTP"),
    "length below 0": (write(HEAD + b"Content-Length: -1\r\n\r\nx"), "not HTTP"),
    "two lengths": (write(HEAD + b"Content-Length: 1\r\nContent-Length: 5\r\n\r\nx"), "not HTTP"),
    "NUL in a header": (write(HEAD + b"X: a\0b\r\n\r\nx"), "not HTTP"),
    "chunk of no number": (write(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n"), "not HTTP"),
    "chunk cut": (write(CHUNKED + b"ff\r\nabc"), "broken off"),
    "no gzip": (write(HEAD + GZIP + b"plain" * 300), "encoding"),
    "cut gzip": (write(HEAD + GZIP + gzip.compress(os.urandom(3000))[:-9]), "encoding"),
    "brotli, not asked for": (write(HEAD + b"Content-Encoding: br\r\n\r\nplain"), "encoding"),
    "unknown encoding": (write(HEAD + b"Content-Encoding: lzma\r\n\r\nxx"), "encoding"),
    "two encodings": (write(HEAD + b"Content-Encoding: gzip, gzip\r\n\r\nxx"), "encoding"),
    "status of four digits": (write(b"HTTP/1.1 2000 OK\r\n\r\n"), "not HTTP"),
    "status 999": (write(b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"), "HTTP 999"),
    "switch": (write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), "HTTP 101"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_costs_no_other(run, site, answer, name):
    handle, reason = HOSTILE[name]
    site.routes = {"/bad": handle, "/good": answer(TEXT), "/better": answer(TEXT)}
    began = time.monotonic()
    outcomes = run(
        *(f"{site.url}/{path}" for path in ("bad", "good", "better")),
        timeout=0.7,
        max_mb=1.0,
        retries=1,
        workers=2,
    ).outcomes
    assert outcomes.pop(f"{site.url}/bad") == reason
    assert list(outcomes.values()) == ["kept", "kept"]
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", lambda n: gzip.compress(bytes(n))),
        ("deflate", lambda n: zlib.compress(bytes(n), wbits=-15)),
        ("deflate", lambda n: zlib.compress(bytes(n))),
    ],
    ids=["gzip", "raw deflate", "deflate"],
)
def test_bombs_are_cut(run, site, answer, encoding, pack):
    bomb = pack(200 << 20)
    assert len(bomb) < 1 << 20
    site.routes["/bomb"] = answer(bomb, Content_Encoding=encoding)
    site.routes["/robots.txt"] = answer(bomb, "text/plain", Content_Encoding=encoding)
    began = time.monotonic()
    assert run(f"{site.url}/bomb", max_mb=1.0).counts.dropped == {"too large": 1}
    assert time.monotonic() - began < 2


def test_a_robots_txt_of_ten_megabytes(run, site, answer):
    rules = b"User-agent: *\nDisallow: /no\n" + b"# filler\n" * 1_100_000 + b"Disallow: /late\n"
    site.routes["/robots.txt"] = answer(rules, "text/plain")
    for path in ("/no", "/late"):
        site.routes[path] = answer(TEXT)
    outcomes = run(f"{site.url}/no", f"{site.url}/late").outcomes
    assert outcomes == {f"{site.url}/no": "robots.txt", f"{site.url}/late": "kept"}


def test_an_endless_robots_txt(run, site, answer):
    site.routes = {"/robots.txt": endless, "/a": answer(TEXT)}
    assert run(f"{site.url}/a").counts.n_kept == 1


def test_a_dripping_robots_txt(run, site, answer):
    site.routes = {"/robots.txt": drip, "/a": answer(TEXT)}
    assert run(f"{site.url}/a", timeout=0.5).counts.dropped == {"timeout": 1}


def test_many_sites_that_send_to_one(run, make_site, answer):
    """The one is asked at its own rate, however many lead there."""
    victim = make_site()
    victim.routes = {f"/{n}": answer(TEXT) for n in range(12)}
    sites = [make_site() for _ in range(12)]
    for number, one in enumerate(sites):
        one.routes["/"] = answer(status="302 Found", Location=f"{victim.url}/{number}")
    counts = run(*(f"{one.url}/" for one in sites), per_host="10/s").counts
    assert counts.n_kept == 12
    times = [when for when, *_ in victim.requests]
    assert times[-1] - times[0] > 1.1


def test_an_answer_behind_an_answer_is_not_taken_for_the_next(run, site, answer):
    site.routes["/a"] = answer(TEXT) + answer(b"smuggled")
    site.routes["/b"] = answer(TEXT)
    pages = run(f"{site.url}/a", f"{site.url}/b", host_connections=1).pages
    assert {page.body for page in pages.values()} == {TEXT}
