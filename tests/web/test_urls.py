"""From submissions to pages: which are left out and why, and when two addresses are one."""

import gzip
import html
import json
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scratchlm.web import dumps, urls
from scratchlm.web.dumps import Reading, Submission
from scratchlm.web.url_set import UrlSet
from scratchlm.web.urls import Rules, candidates, canonical, reason_to_drop, unseen

LISTS = sorted((Path(urls.__file__).parent / "lists").glob("*.txt"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com", "https://example.com/"),
        ("  HTTPS://Example.COM/A?B#c \n", "https://example.com/A?B"),
        ("http://www.example.com/", "https://example.com/"),
        ("http://www.com/", "https://www.com/"),
        ("http://www.www.a.org/", "https://a.org/"),
        ("http://example.com.:80/", "https://example.com/"),
        ("https://example.com:443", "https://example.com/"),
        ("http://example.com:443", "https://example.com/"),
        ("http://example.com:8080/", "https://example.com:8080/"),
        ("http://example.com:/", "https://example.com/"),
        ("http://localhost:00081/a", "https://localhost:81/a"),
        ("http://b\u00fccher.de/\u00fc?q=\u4f60", "https://xn--bcher-kva.de/%C3%BC?q=%E4%BD%A0"),
        ("http://B%C3%BCcher.de", "https://xn--bcher-kva.de/"),
        ("http://\u4f8b\u5b50\u3002\u4e2d\u56fd/", "https://xn--fsqu00a.xn--fiqs8s/"),
        ("http://127.0.0.1:8000/a", "https://127.0.0.1:8000/a"),
        ("http://[2001:DB8::1]:80/", "https://[2001:db8::1]/"),
        ("http://[::1]:8000/", "https://[::1]:8000/"),
        ("http://under_score.-a-.org/", "https://under_score.-a-.org/"),
        ("http://a.org/%7ebob/%2f%zz%", "https://a.org/~bob/%2F%25zz%25"),
        ("http://a.org/%%34%31", "https://a.org/%2541"),
        ("http://a.org/a b|c[1]\\", "https://a.org/a%20b%7Cc%5B1%5D%5C"),
        ("http://a.org/a/./b/../c/..", "https://a.org/a/"),
        ("http://a.org/../../%2e%2E/x", "https://a.org/x"),
        ("http://a.org//x//", "https://a.org//x//"),
        ("http://a.org/x/", "https://a.org/x/"),
        ("http://a.org?", "https://a.org/"),
        ("http://a.org?b=/../c", "https://a.org/?b=/../c"),
        ("http://a.org/?b=1&amp;a=2", "https://a.org/?b=1&a=2"),
        ("http://a.org/?b=1&amp;amp;a=&lt;&#39;&quot;", "https://a.org/?b=1&a=%3C'%22"),
        ("http://a.org/?b=1&copy=2&ampere=3", "https://a.org/?b=1&copy=2&ampere=3"),
        ("http://a.org/?utm_source=x&id=7&UTM_Medium=y&fbclid", "https://a.org/?id=7"),
        ("http://a.org/?ref=rss&amp;reference=3", "https://a.org/?reference=3"),
        ("http://a.org/?&&a&", "https://a.org/?a"),
        ("http://a.org/x\ny\tz", "https://a.org/xyz"),
        ("http://a.org/\ud800", "https://a.org/%ED%A0%80"),
    ],
)
def test_canonical_forms(url, expected):
    assert canonical(url) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "/r/pics", "ftp://a.org/", "javascript:alert(1)",
        "mailto:a@b.org", "http:/a.org", "http:///a", "http://", "https://?q", "http://#",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_page(url):
    assert canonical(url) is None


@pytest.mark.parametrize(
    "host",
    [
        "user@a.org", "user:pw@a.org", "good.com\\@evil.com", "a..org", ".org", "a.org:99999",
        "a.org:0", "a.org:8x", "a b.org", "a<b.org", "a%2fb.org", "[::1", "[zz]", "[]", "1.2.3",
        "2130706433", "0x7f.1", "256.1.1.1", "010.1.1.1", "a.org%ff", "\ud800.org",
        f"{'a' * 64}.org", f"{'a.' * 130}org", f"{chr(252) * 64}.de", f"{chr(252) * 100_000}.de",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_host(host):
    assert canonical(f"http://{host}/") is None


CRUMBS = st.sampled_from(
    [
        "http://", "HTTPS://", "a.org", "www.", "/", "//", ".", "..", "/../", "?", "&", "&amp;",
        "amp;", "&lt;", "lt;", "&#39;", "#", "%", "%2", "%61", "%26", "%2e", "%zz", "utm_a=1", "=",
        ":", ":80", "@", "[::1]", "1.2.3.4", "\u00fc", "\ud800", "\u2028", "\t", " ", "\\",
        "\u2488", "\uff0e", "\u2100",
    ]
)  # fmt: skip


@given(st.text() | st.lists(CRUMBS | st.text(max_size=3), max_size=12).map("".join))
@example("a.org/%%34%31")
@example("&%61mp;&utm_a&amp;lt;")
@settings(max_examples=300, deadline=None)
def test_any_text_has_one_canonical_form(text):
    for url in (text, f"http://{text}", f"http://a.org/{text}", f"http://a.org/?{text}"):
        form = canonical(url)
        if form is not None:
            assert canonical(form) == form
            assert form.isascii()
            assert form.startswith("https://")
            assert not any(char in form for char in ' #<>"\n')


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_lists_are_sorted_and_plain(path):
    lines = path.read_text(encoding="ascii").splitlines()
    entries = [line for line in lines if not line.startswith("#")]
    assert lines[0].startswith("# ")
    assert entries == sorted(set(entries))
    assert all(entry == entry.strip().lower() and entry for entry in entries)
    if "host" in path.stem or path.stem == "shorteners":
        assert all(canonical(f"http://{entry}/") == f"https://{entry}/" for entry in entries)
        below = [entry for entry in entries if urls._is_below(entry.partition(".")[2], entries)]
        assert below == []  # the entry above holds for it already


def test_no_host_is_in_two_lists():
    names = [path for path in LISTS if path.stem not in ("extensions", "tracking")]
    entries = [line for path in names for line in path.read_text("ascii").splitlines()]
    counts = Counter(entry for entry in entries if not entry.startswith("#"))
    assert [entry for entry, n in counts.items() if n > 1] == []


LINK = Submission("http://a.org/story.html", score=3, created=1293840000)  # 2011-01-01 00:00:00


def reason(rules: Rules = Rules(), **fields) -> str | None:  # noqa: B008
    values = {name: getattr(LINK, name) for name in LINK.__slots__}
    submission = Submission(**(values | fields))
    return reason_to_drop(submission, canonical(submission.url), rules)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"score": 2}, "score"),
        ({"score": None}, "score"),
        ({"is_self": True}, "self post"),
        ({"over_18": True}, "nsfw"),
        ({"url": ""}, "not http"),
        ({"url": "/r/pics/comments/1"}, "not http"),
        ({"url": "ftp://a.org/"}, "not http"),
        ({"url": "http://"}, "no host"),
        ({"url": "http://" + "me@a.org/"}, "no host"),
        ({"url": "http://localhost:8000/"}, "no host"),
        ({"url": "http://[2001:db8::1]/"}, None),
        ({"url": "http://youtu.be/abc"}, "media host"),
        ({"url": "http://i.imgur.com:80/abc"}, "media host"),
        ({"url": "https://WWW.YouTube.com:8080/watch?v=1"}, "media host"),
        ({"url": "http://notimgur.com/abc"}, None),
        ({"url": "http://imgur.com.example.org/abc"}, None),
        ({"url": "http://bit.ly/abc"}, "shortener"),
        ({"url": "http://t.co/abc"}, "shortener"),
        ({"url": "http://reddit.com/r/x"}, "blocked host"),
        ({"url": "http://zh.wikipedia.org/wiki/x"}, "blocked host"),
        ({"url": "http://a.org/b/c.PDF?x=1"}, "extension"),
        ({"url": "http://a.org/c.jp%65g#x"}, "extension"),
        ({"url": "http://a.org/pdf"}, None),
        ({"url": "http://a.org/x.pdf/read"}, None),
        ({"url": "http://a.org/read?x=y.pdf"}, None),
    ],
)
def test_reasons_to_drop(fields, expected):
    assert reason(**fields) == expected


def test_rules_can_be_set():
    assert reason(Rules(min_score=4)) == "score"
    assert reason(Rules(min_score=-1), score=-1) is None
    assert reason(Rules(allow_nsfw=True), over_18=True) is None
    assert reason(Rules(blocked_hosts=("a.org",)), url="http://b.a.org/") == "blocked host"
    assert reason(Rules(years=(2011, 2011))) is None
    assert reason(Rules(years=(2011, 2011)), created=1293839999) == "year"
    assert reason(Rules(years=(2009, 2010))) == "year"
    assert reason(Rules(years=(2009, 2010)), created=None) == "year"


def month(path: Path, records: list[dict | str]) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def link(number: int, url: str, **more) -> dict:
    return {"id": f"t{number}", "url": url, "score": 5, "created_utc": 1293840000 + number, **more}


def test_extraction_counts_every_record(tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "MAX_LINE", 1 << 16)
    monkeypatch.setattr(urls, "_BATCH", 2)
    first = month(
        tmp_path / "RS_2011-01.gz",
        [
            link(1, "http://a.org/1?x=1&amp;utm_source=rss"),
            link(2, "https://www.a.org/1?x=1"),
            link(3, "http://a.org/2", score=1),
            "{broken",
            link(4, "http://a.org/2"),
            link(5, "http://imgur.com/2"),
            link(6, "http://a.org/3", text="x" * (1 << 17)),
            link(7, "http://a.org/3"),
        ],
    )
    second = month(
        tmp_path / "RS_2011-02.gz", [link(8, "http://a.org/2#x"), link(9, "http://b.org")]
    )
    second.write_bytes(second.read_bytes()[:-4])
    dropped, readings = (Counter(), Counter()), (Reading(), Reading())
    with UrlSet(tmp_path / "seen") as seen:
        pages = [
            list(candidates(path, Rules(), counts, reading))
            for path, counts, reading in zip((first, second), dropped, readings)
        ]
        found = list(unseen(chain(*pages), seen))
    assert [(page.id, page.url, page.canonical) for page in found] == [
        ("t1", "http://a.org/1?x=1&utm_source=rss", "https://a.org/1?x=1"),
        ("t4", "http://a.org/2", "https://a.org/2"),
        ("t7", "http://a.org/3", "https://a.org/3"),
        ("t9", "http://b.org", "https://b.org/"),
    ]
    assert (found[0].score, found[0].created) == (5, 1293840001)
    assert dropped == ({"score": 1, "unreadable": 2, "media host": 1}, {})
    assert [len(some) for some in pages] == [4, 2]
    assert [(reading.n_records, reading.n_long) for reading in readings] == [(7, 1), (2, 0)]
    assert [reading.cut_at for reading in readings] == [None, len(second.read_bytes())]
    limited = candidates(first, Rules(), Counter(), Reading(), limit=2)
    assert [page.id for page in limited] == ["t1", "t2"]


def test_real_dumps(shared_data, tmp_path):
    folder = shared_data / "reddit" / "pushshift_dumps"
    paths = [folder / f"RS_v2_2005-0{month_number}.xz" for month_number in (6, 7)]
    dropped: Counter[str] = Counter()
    readings = [Reading(), Reading()]
    pages = [
        page
        for path, reading in zip(paths, readings)
        for page in candidates(path, Rules(), dropped, reading)
    ]
    with UrlSet(tmp_path / "seen") as seen:
        found = list(unseen(pages, seen))
        assert list(unseen(pages, seen)) == []
    records = [
        json.loads(line)
        for path in paths
        for line in path.with_suffix("").read_text(encoding="utf-8").splitlines()
    ]
    assert [reading.n_records for reading in readings] == [103, 1079]
    assert dropped["score"] == sum(record["score"] < 3 for record in records)
    assert len(found) == len({page.canonical for page in found})
    assert len(pages) + dropped.total() == len(records)
    assert set(dropped) <= {"score", "media host", "blocked host", "extension"}
    popular = {html.unescape(record["url"]): record for record in records if record["score"] >= 3}
    assert {page.url for page in found} <= set(popular)
    assert all(popular[page.url]["domain"] in page.url for page in found)
