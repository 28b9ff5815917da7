"""Archives: ours are read by warcio and fastwarc, theirs by us, and damaged ones to the damage."""

import gzip
import io
import logging
import random
import subprocess
import sys
import zlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import brotli
import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from scratchlm.web.warc import Page, info_record, read_pages, response_record

DATE = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
ABOUT = {"software": "scratchlm/0", "format": "WARC File Format 1.1"}
HTML = "<html><title>\u6625\u7720\u4e0d\u89c9\u6653</title><p>text &amp; more</p></html>".encode()
HEADERS = (
    (b"Server", b"caf\xe9"),
    (b"content-language", b"zh"),
    (b"Content-Length", b"77"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Set-Cookie", b"a=1"),
    (b"Set-Cookie", b"b=2"),
    (b"Content-Type", b'text/HTML; Charset="GBK"'),
)


def record(number: int = 0, body: bytes = HTML, headers=HEADERS) -> bytes:
    url = f"https://example.org/{number}?%E4%BD%A0"
    return response_record(url, "HTTP/1.1 200 OK", headers, body, DATE, "93.184.216.34")


def pages(path: Path, max_bytes: int = 1 << 20) -> tuple[list[Page], Counter[str]]:
    skipped: Counter[str] = Counter()
    return list(read_pages(path, max_bytes, skipped)), skipped


@pytest.fixture
def archive(tmp_path) -> Path:
    path = tmp_path / "pages-00000.warc.gz"
    info = info_record(path.name, ABOUT, DATE)
    path.write_bytes(info + record(0) + record(1, b"", ()) + record(2, bytes(range(256)) * 300))
    return path


def test_warcio_checks_our_digests(archive):
    command = [sys.executable, "-m", "warcio.cli", "check", "-v", archive]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("digest pass") == 4
    assert "no digest" not in done.stdout


def test_warcio_reads_our_records(archive):
    with open(archive, "rb") as file:
        records = [
            (r.rec_type, r.rec_headers, r.http_headers, r.content_stream().read())
            for r in ArchiveIterator(file, check_digests="raise")
        ]
    assert [kind for kind, *_ in records] == ["warcinfo", "response", "response", "response"]
    assert b"software: scratchlm/0\r\n" in records[0][3]
    _, fields, http, body = records[1]
    assert body == HTML
    assert fields.protocol == "WARC/1.1"
    assert fields.get_header("WARC-Target-URI") == "https://example.org/0?%E4%BD%A0"
    assert fields.get_header("WARC-Date") == "2026-03-04T05:06:07Z"
    assert fields.get_header("WARC-IP-Address") == "93.184.216.34"
    assert http.get_header("Content-Length") == str(len(HTML))
    assert http.get_header("X-Crawler-Content-Length") == "77"
    assert http.get_header("X-Crawler-Transfer-Encoding") == "chunked"
    assert http.get_statuscode() == "200"
    assert records[3][3] == bytes(range(256)) * 300


def test_a_page_that_came_packed_is_read_by_all(tmp_path):
    path = tmp_path / "a.warc.gz"
    headers = ((b"Content-Type", b"text/html"), (b"Content-Encoding", b"gzip"))
    packed = gzip.compress(HTML)
    arguments = ("http://a.org/", "HTTP/1.1 200 OK", headers, packed, DATE, "8.8.8.8")
    path.write_bytes(response_record(*arguments, is_packed=True))
    assert [page.body for page in pages(path)[0]] == [HTML]
    with open(path, "rb") as file:
        theirs = ArchiveIterator(file, check_digests="raise")
        assert [one.content_stream().read() for one in theirs] == [HTML]
    with open(path, "rb") as file:
        assert [one.reader.read() for one in FastIterator(file, auto_decode="all")] == [HTML]
    with open(path, "rb") as file:
        assert [one.reader.read() for one in FastIterator(file)] == [packed]


@pytest.mark.parametrize("n_bytes", [0, 1, 65_000, 65_535, 65_536, 200_000])
def test_packed_pages_of_any_size(tmp_path, n_bytes):
    path, body = tmp_path / "a.warc.gz", random.Random(0).randbytes(n_bytes)
    arguments = ("http://a.org/", "HTTP/1.1 200 OK", (), body, DATE, "")
    path.write_bytes(response_record(*arguments, is_packed=True))
    assert len(path.read_bytes()) < n_bytes + 600
    assert [page.body for page in pages(path)[0]] == [body]
    with open(path, "rb") as file:
        theirs = ArchiveIterator(file, check_digests="raise")
        assert [one.content_stream().read() for one in theirs] == [body]


def test_fastwarc_reads_our_records_from_any_of_them_on(archive):
    found, _ = pages(archive)
    with open(archive, "rb") as file:
        for page in found:
            file.seek(page.offset)
            first = next(iter(FastIterator(file)))
            assert first.headers["WARC-Target-URI"] == page.url
            assert first.reader.read() == page.body
    with open(archive, "rb") as file:
        assert all(r.verify_block_digest() for r in FastIterator(file, parse_http=False))


def test_we_read_our_records(archive):
    found, skipped = pages(archive)
    assert not skipped
    assert [page.url.split("?")[0][-1] for page in found] == ["0", "1", "2"]
    first, empty, binary = found
    assert first.body == HTML
    assert (first.content_type, first.charset, first.status) == ("text/html", "gbk", 200)
    assert first.date == "2026-03-04T05:06:07Z"
    assert (empty.body, empty.content_type, empty.charset) == (b"", "", None)
    assert binary.body == bytes(range(256)) * 300


@given(
    st.binary(max_size=400),
    st.lists(st.tuples(st.from_regex(rb"[A-Za-z-]{1,12}", fullmatch=True), st.binary(max_size=20))),
)
@settings(max_examples=150, deadline=None)
def test_any_body_comes_back(tmp_path_factory, body, headers):
    harmless = [
        (key, value.translate(None, b"\r\n\0").strip())
        for key, value in headers
        if not key.lower().startswith((b"content-", b"transfer-"))
    ]
    path = tmp_path_factory.mktemp("any") / "a.warc.gz"
    path.write_bytes(record(5, body, harmless))
    (page,), skipped = pages(path)
    assert (page.body, page.status, page.offset) == (body, 200, 0)
    assert not skipped
    theirs = ArchiveIterator(io.BytesIO(path.read_bytes()), check_digests="raise")
    assert [one.content_stream().read() for one in theirs] == [body]


def test_large_records_are_passed_over(archive):
    found, skipped = pages(archive, max_bytes=2000)
    assert [len(page.body) for page in found] == [len(HTML), 0]
    assert skipped == {"too large": 1}


def other_record(block: bytes, kind: str = "response", **fields: str) -> bytes:
    about = {
        "WARC-Type": kind,
        "WARC-Target-URI": "http://example.org/x",
        "WARC-Date": "2020-01-01T00:00:00Z",
        "WARC-Record-ID": "<urn:uuid:00000000-0000-0000-0000-000000000000>",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(block)),
    }
    about |= {key.replace("_", "-"): value for key, value in fields.items()}
    head = "".join(f"{key}: {value}\r\n" for key, value in about.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


@pytest.mark.parametrize("ending", [".warc", ".warc.gz"])
@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Type: text/html", HTML),
        ("Content-Type: text/html\r\nContent-Encoding: gzip", gzip.compress(HTML)),
        ("Content-Type: text/html\r\nContent-Encoding: deflate", zlib.compress(HTML)),
        ("Content-Type: text/html\r\nContent-Encoding: deflate", zlib.compress(HTML, wbits=-15)),
        ("Content-Type: text/html\r\nContent-Encoding: br", brotli.compress(HTML)),
        ("Content-Type: text/html\r\nContent-Encoding: gzip", HTML),
        ("Content-Type: text/html\r\nTransfer-Encoding: chunked", HTML),
        ("Content-Type: text/html\r\nTransfer-Encoding: chunked", chunked(HTML)),
        (
            "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip",
            chunked(gzip.compress(HTML)),
        ),
    ],
    ids=range(9),  # packed bytes hold the time
)
def test_archives_of_others_are_decoded(tmp_path, ending, head, body):
    path = tmp_path / f"a{ending}"
    content = other_record(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    (page,), _ = pages(path)
    assert page.body == HTML
    assert (page.content_type, page.status) == ("text/html", 200)


def test_a_bomb_within_a_record_is_passed_over(tmp_path):
    bomb = gzip.compress(bytes(50_000_000))
    path = tmp_path / "a.warc"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    path.write_bytes(other_record(head + bomb) + other_record(head + gzip.compress(HTML)))
    found, skipped = pages(path, max_bytes=1_000_000)
    assert [page.body for page in found] == [HTML]
    assert skipped == {"too large": 1}


def test_records_without_http(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(
        other_record(b"plain", "resource", Content_Type="text/plain; charset=UTF-8")
        + other_record("\u6587".encode(), "conversion", Content_Type="text/plain")
        + other_record(b"GET / HTTP/1.1\r\n\r\n", "request")
        + other_record(b"HTTP/1.1 200 OK\r\n\r\n", "revisit")
        + other_record(b"via: x\r\n", "metadata", Content_Type="application/warc-fields")
    )
    found, skipped = pages(path)
    assert [(p.body, p.content_type, p.charset, p.status) for p in found] == [
        (b"plain", "text/plain", "utf-8", 200),
        ("\u6587".encode(), "text/plain", None, 200),
    ]
    assert skipped == {"revisit": 1}


def test_a_block_that_is_no_http_is_passed_over(tmp_path):
    path = tmp_path / "a.warc"
    good = other_record(b"HTTP/1.1 404 Not Found\r\n\r\nno")
    path.write_bytes(other_record(b"\0\1\2 nothing") + other_record(b"") + good)
    found, skipped = pages(path)
    assert [(page.status, page.body) for page in found] == [(404, b"no")]
    assert skipped == {"not HTTP": 2}


def test_archives_are_read_up_to_the_cut(tmp_path, caplog):
    records = [record(number, HTML * number) for number in range(4)]
    whole = b"".join(records)
    ends = [len(b"".join(records[:n])) for n in range(5)]
    path = tmp_path / "a.warc.gz"
    near = (end + step for end in ends[1:4] for step in (-1, 0, 1))
    for cut in (*range(1, len(whole), 7), *near):
        path.write_bytes(whole[:cut])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found, skipped = pages(path)
        behind = cut - max(end for end in ends if end <= cut)
        n_whole = sum(end <= cut for end in ends[1:])
        n_found = len(found)  # a page is whole, although the end of its record may be missing
        assert n_found == n_whole or (n_found == n_whole + 1 and ends[n_found] - cut < 20), cut
        assert [page.body for page in found] == [HTML * n for n in range(n_found)], cut
        assert not skipped
        if behind == 0 or behind > 120:  # the head of a gzip stream holds no letter yet
            assert bool(caplog.records) == (n_found == n_whole and behind > 0), cut
        if caplog.records:
            assert "a.warc.gz is damaged behind" in caplog.text


def test_a_damaged_record_ends_the_reading(tmp_path, caplog):
    records = [record(number, HTML * 100) for number in range(3)]
    damaged = bytearray(records[1])
    damaged[len(damaged) // 2 :] = b"\xaa" * (len(damaged) - len(damaged) // 2)
    path = tmp_path / "a.warc.gz"
    path.write_bytes(records[0] + bytes(damaged) + records[2])
    found, _ = pages(path)
    assert [page.body for page in found] == [HTML * 100]
    assert "a.warc.gz is damaged behind 1 page" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no archive\n" * 100, b"\x1f\x8b", bytes(1000)])
def test_what_is_no_archive_has_no_pages(tmp_path, content):
    for name in ("a.warc", "a.warc.gz"):
        path = tmp_path / name
        path.write_bytes(content)
        assert pages(path) == ([], {})


@pytest.mark.parametrize(
    ("name", "n_pages"),
    [
        ("whirlwind/whirlwind.warc", 1),
        ("whirlwind/whirlwind.warc.gz", 1),
        ("whirlwind/whirlwind.warc.wet.gz", 1),
        ("fastwarc/warcfile.warc", 16),
        ("fastwarc/warcfile.warc.gz", 16),
        ("fastwarc/warcfile.warc.lz4", 16),
        ("fastwarc/clipped.warc.gz", 0),
        ("warcio/example.warc.gz", 1),
        ("warcio/example-iana.org-chunked.warc", 1),
    ],
)
def test_real_archives(shared_data, name, n_pages):
    path = shared_data / "warc" / name
    found, _ = pages(path, 1 << 24)
    assert len(found) == n_pages
    assert all(page.url.startswith("http") and page.body for page in found)


def test_every_archive_is_read_to_its_end_or_its_damage(shared_data):
    for path in sorted((shared_data / "warc").rglob("*.warc*")):
        if path.suffix != ".paths":
            pages(path)
