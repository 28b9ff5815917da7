"""Lists of every kind become one: each address once, and every line counted."""

import json
from collections import Counter
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.web import url_lists
from scratchlm.web.url_lists import UrlList, cleaned, find_lists, site_of, write_list
from scratchlm.web.url_set import UrlSet


def read(tmp_path: Path, *lists: Path, limit: int = 0) -> tuple[list[str], Counter[str]]:
    """The addresses of lists, and what was counted."""
    read_bytes: list[int] = []
    with UrlSet(tmp_path / "seen") as seen:
        counts = write_list(lists, tmp_path / "urls.tsv", seen, limit, read_bytes.append)
    assert sum(read_bytes) <= sum(path.stat().st_size for path in lists)
    with UrlSet(tmp_path / "again") as seen:
        pages = UrlList(tmp_path / "urls.tsv", seen)
        assert len(seen) == len(pages)
    urls = [url for _, _, url in pages.left()]
    assert counts["in"] == len(urls) + sum(n for reason, n in counts.items() if reason != "in")
    return urls, counts


def test_a_list_of_every_kind(tmp_path):
    text = tmp_path / "a.txt"
    text.write_bytes(
        b"\xef\xbb\xbfhttp://a.org/1\r\n\n  # a comment\n\thttps://www.a.org/1#x \n"
        b"ftp://a.org/\nhttp://a.org/\xc4\xe3\n" + "http://b.cn/\u4f60\n".encode() + b"just words\n"
        b"http://" + b"a" * 9000 + b".org/\nhttp://c.org"
    )
    objects = tmp_path / "b.jsonl"
    lines = [{"url": "http://d.org/", "canonical": "x"}, {"url": 7}, {"id": 1}, ["http://e.org"]]
    lines += [{"url": "http://A.org/1"}, {"url": "http://f.org/\ud800\n?x"}]
    objects.write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n", "utf-8")
    urls, counts = read(tmp_path, text, objects)
    assert urls == [
        *("http://a.org/1", "http://a.org/%C4%E3", "http://b.cn/\u4f60", "http://c.org"),
        *("http://d.org/", "http://f.org/%ED%A0%80?x"),
    ]
    assert counts == {"in": 15, "duplicate": 2, "no address": 7}


def test_a_limit_counts_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("# x\nhttp://a.org\nhttp://a.org\n\nhttp://b.org\nhttp://c.org\n", "utf-8")
    urls, counts = read(tmp_path, path, limit=3)
    assert urls == ["http://a.org", "http://b.org"]
    assert counts["in"] == 3


def test_long_lines_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(url_lists, "_MOST_LINE", 100)
    path = tmp_path / "a.txt"
    path.write_bytes(b"http://a.org/" + b"x" * 1000 + b"\nhttp://b.org/\n" + b"y" * 99 + b"\n")
    urls, counts = read(tmp_path, path)
    assert urls[-1] == "http://b.org/"
    assert counts["in"] == 3


def test_lists_are_found_in_folders(tmp_path):
    for name in ("b.txt", "c/a.jsonl", "counts.json", ".work/x.txt", "c/.y.txt", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")
    found = find_lists([tmp_path, tmp_path / "b.txt"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["b.txt", "c/a.jsonl"]


def test_what_is_no_list(tmp_path):
    with pytest.raises(DataError, match=r"missing\.txt does not exist"):
        find_lists([tmp_path / "missing.txt"])
    (tmp_path / "a.csv").write_text("http://a.org", "utf-8")
    with pytest.raises(DataError, match=r"a\.csv is no list of addresses: it must be \.txt, with"):
        find_lists([tmp_path / "a.csv"])
    with pytest.raises(DataError, match=r"there is no \.txt or \.jsonl list in"):
        find_lists([tmp_path])


def test_what_is_taken_is_not_given_again(tmp_path, monkeypatch):
    monkeypatch.setattr(url_lists, "_MANY", 10)
    path = tmp_path / "a.txt"
    path.write_text("".join(f"http://{n % 3}.org/{n}\n" for n in range(100)), "utf-8")
    with UrlSet(tmp_path / "seen") as seen:
        write_list([path], tmp_path / "urls.tsv", seen, 0, lambda _: None)
        pages = UrlList(tmp_path / "urls.tsv", seen)
    pages.taken[:90] = bytes([1]) * 90
    left = []
    for page in pages.left():
        if page is not None:
            left.append(page)
            pages.taken[95] = 1
    assert left[0] == (90, "0.org", "http://0.org/90")
    assert [number for number, _, _ in left] == [90, 91, 92, 93, 94, 96, 97, 98, 99]
    assert list(pages.left()).count(None) == 9


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("http://www.A.org:80/x", "a.org"),
        ("https://a.org:8443/x", "a.org:8443"),
        ("http://[::1]:81/", "[::1]:81"),
        ("ftp://a.org", None),
        ("http://a.org/" + "x" * 8000, None),
    ],
)
def test_sites(url, site):
    assert site_of(url) == site


def test_addresses_are_cleaned():
    raw = b" http://a.org/\xe4\xbd\xa0\xff\t\r\nb "
    assert cleaned(raw.decode("utf-8", "surrogateescape")) == "http://a.org/\u4f60%FFb"
