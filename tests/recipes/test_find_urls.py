"""`corpus urls`: every record is counted, each page listed once, whatever was met before."""

import gzip
import json
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.stages import counts_of
from scratchlm.recipes.find_urls import UrlsConfig, find_urls


def month(path: Path, links: list[tuple[str, int]], created: int = 1_293_840_000) -> Path:
    records = [
        {"id": f"t{i}", "url": url, "score": score, "created_utc": created + i}
        for i, (url, score) in enumerate(links)
    ]
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    return path


@pytest.fixture
def dumps(tmp_path) -> Path:
    folder = tmp_path / "dumps"
    folder.mkdir()
    month(folder / "RS_2011-02.gz", [("http://a.org/2#x", 5), ("http://c.org", 5)])
    month(folder / "RS_2011-01.gz", [
        ("http://a.org/1", 3), ("https://www.a.org/1", 9), ("http://a.org/2", 4),
        ("http://a.org/3", 2), ("http://imgur.com/x", 7),
    ])  # fmt: skip
    (folder / "readme.md").write_text("not a dump")
    return folder


def listed(path: Path) -> list[str]:
    return [json.loads(line)["url"] for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_pages_are_listed_once_over_all_dumps(dumps, tmp_path, workers):
    out = tmp_path / "urls"
    counts = find_urls([dumps], out, scale=Scale(workers))
    assert listed(out / "RS_2011-01.jsonl") == ["http://a.org/1", "http://a.org/2"]
    assert listed(out / "RS_2011-02.jsonl") == ["http://c.org"]
    assert counts == counts_of(out)
    assert (counts.n_in, counts.n_kept) == (7, 3)
    assert counts.dropped == {"duplicate": 2, "score": 1, "media host": 1}


def test_a_later_month_knows_the_earlier_ones(dumps, tmp_path):
    find_urls(dumps, tmp_path / "urls")
    later = month(tmp_path / "RS_2011-03.gz", [("http://c.org/", 5), ("http://d.org", 5)])
    known = UrlsConfig(known=tmp_path / "urls")
    counts = find_urls(later, tmp_path / "later", config=known)
    assert listed(tmp_path / "later" / "RS_2011-03.jsonl") == ["http://d.org"]
    assert counts.dropped == {"duplicate": 1}


def test_rules_are_passed_on(dumps, tmp_path):
    rules = UrlsConfig(years="2010", blocked_hosts=("A.org",))
    assert find_urls(dumps, tmp_path / "a", config=rules).n_kept == 0
    rules = UrlsConfig(years="2010-2011", min_score=2, blocked_hosts=("A.org",))
    assert find_urls(dumps, tmp_path / "b", config=rules).n_kept == 1
    assert find_urls(dumps, tmp_path / "c", config=UrlsConfig(limit=1)).n_in == 2


def test_dumps_of_one_name_have_files_of_their_own(dumps, tmp_path):
    (dumps / "RS_2011-02.jsonl").write_text('{"id": "z", "url": "http://z.org", "score": 5}\n')
    find_urls(dumps, tmp_path / "urls")
    assert listed(tmp_path / "urls" / "RS_2011-02-2.jsonl") == ["http://z.org"]


def test_what_is_wrong_is_named(dumps, tmp_path):
    out = tmp_path / "out"
    for years, message in (("x", "must be a year or two"), ("2016-", "must be a year or two"),
                           ("2018-2016", "ends before it begins")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"years = '{years}' {message}"):
            find_urls(dumps, out, config=UrlsConfig(years=years))
    with pytest.raises(DataError, match=r"nowhere\.zst does not exist"):
        find_urls([tmp_path / "nowhere.zst"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no dump in .*empty: no file ends in \.zst \.xz"):
        find_urls([tmp_path / "empty"], out)
    with pytest.raises(DataError, match=r"dumps holds no seen\.npy: name a folder that corpus url"):
        find_urls(dumps, out, config=UrlsConfig(known=dumps))
    assert not out.exists()


def test_earlier_lists_are_not_replaced(dumps, tmp_path):
    find_urls(dumps, tmp_path / "urls")
    before = sorted(path.name for path in (tmp_path / "urls").iterdir())
    again = UrlsConfig(known=tmp_path / "urls", overwrite=True)
    with pytest.raises(ConfigError, match=r"urls, which is to be read, is the folder to make"):
        find_urls(dumps, tmp_path / "urls", config=again)
    assert sorted(path.name for path in (tmp_path / "urls").iterdir()) == before


@pytest.mark.parametrize("host", ["http://a.org/", "a.org/path", "", "a b", ".org"])
def test_a_blocked_host_must_be_one(host):
    with pytest.raises(ConfigError, match=r"blocked_hosts: '.*' is no host. Write it like exa"):
        UrlsConfig(blocked_hosts=(host,)).rules()


def test_blocked_hosts_as_addresses_have_them():
    rules = UrlsConfig(blocked_hosts=("www.Example.org", "中文.com")).rules()
    assert rules.blocked_hosts == ("example.org", "xn--fiq228c.com")


def test_an_endless_address_is_left_out(tmp_path):
    record = {"id": "a", "url": "http://a.org/" + "x" * 9000, "score": 5}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    assert find_urls(tmp_path / "a.jsonl", tmp_path / "urls").dropped == {"too long": 1}


def test_a_file_of_something_else_is_told(tmp_path, caplog):
    (tmp_path / "book.txt").write_text("It was a dark night.\n" * 3)
    find_urls(tmp_path / "book.txt", tmp_path / "urls")
    assert "no address was found (3 unreadable)" in caplog.text
    with pytest.raises(DataError, match=r"there is nothing to read: name a dump"):
        find_urls([], tmp_path / "none")
