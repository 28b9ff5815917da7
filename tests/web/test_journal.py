"""What is on disk after a kill at any byte is true: no page lost, none twice."""

import asyncio
import errno
import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.web import journal as module
from scratchlm.web.client import Answer
from scratchlm.web.journal import KEPT, Done, Journal
from scratchlm.web.warc import read_pages

ABOUT = {"software": "scratchlm/0"}


def page(number: int, n_bytes: int = 100) -> Done:
    url = f"http://example.org/{number}"
    headers = ((b"Content-Type", b"text/plain"),)
    body = (f"{number} " * n_bytes).encode()[:n_bytes]
    answer = Answer(
        url, 200, "HTTP/1.1 200 OK", headers, "text/plain", "", "", "", body,
        is_whole=True, peer="8.8.8.8", date=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    return Done(number, KEPT, 0, url, answer)


def failure(number: int, reason: str = "HTTP 404", n_hops: int = 1) -> Done:
    return Done(number, reason, n_hops, f"http://example.org/{number}?\u4f60")


def open_journal(folder: Path, chunk_bytes: int = 1 << 30, known: list | None = None) -> Journal:
    def note(*facts: object) -> None:
        if known is not None:
            known.append(facts)

    return Journal(folder, 1000, chunk_bytes, ABOUT, note)


def add(journal: Journal, *all_done: Done) -> None:
    async def add_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for done in all_done:
                tasks.create_task(journal.add(done))

    asyncio.run(add_all())


def urls_in(folder: Path) -> list[str]:
    skipped: Counter[str] = Counter()
    found = [
        one.url
        for path in sorted(folder.glob("*.warc.gz"))
        for one in read_pages(path, 1 << 20, skipped)
    ]
    assert not skipped
    return found


def test_a_journal_goes_on(tmp_path):
    with open_journal(tmp_path) as journal:
        add(journal, page(3), failure(5), failure(1, "robots.txt", 0))
        add(journal, page(0, 50))
        assert (journal.tally.n_kept, journal.tally.n_bytes) == (2, 150)
    known: list = []
    with open_journal(tmp_path, known=known) as journal:
        assert sorted(known) == [
            (0, 0, "http://example.org/0"),
            (1, 0, "http://example.org/1?\u4f60"),
            (3, 0, "http://example.org/3"),
            (5, 1, "http://example.org/5?\u4f60"),
        ]
        assert (journal.tally.n_kept, journal.tally.n_bytes) == (2, 150)
        assert journal.tally.dropped == {"HTTP 404": 1, "robots.txt": 1}
        assert journal.tally.n_done == 4
        add(journal, page(7))
    assert urls_in(tmp_path) == [f"http://example.org/{n}" for n in (3, 0, 7)]
    head, *lines = (tmp_path / "journal.tsv").read_text("utf-8").splitlines()
    assert head == "number\toutcome\tredirects\tbytes\tfile\tend\turl"
    size = (tmp_path / "pages-00000.warc.gz").stat().st_size
    assert lines[-1] == f"7\tkept\t0\t100\t0\t{size}\thttp://example.org/7"
    assert "5\tHTTP 404\t1\t-\t-\t-\thttp://example.org/5?\u4f60" in lines


def test_files_end_with_the_page_that_fills_them(tmp_path):
    for number in range(12):
        with open_journal(tmp_path, 700) as journal:
            add(journal, page(number))
    names = [path.name for path in sorted(tmp_path.glob("*.warc.gz"))]
    assert names == [f"pages-{n:05}.warc.gz" for n in range(len(names))]
    assert 3 < len(names) < 12
    assert urls_in(tmp_path) == [f"http://example.org/{n}" for n in range(12)]
    for path in tmp_path.glob("*.warc.gz"):
        assert f"WARC-Filename: {path.name}".encode() in gzip.decompress(path.read_bytes())


def test_many_at_once_are_written_together(tmp_path, monkeypatch):
    flushes = []
    flush = module._flush
    monkeypatch.setattr(module, "_flush", lambda file: flushes.append(flush(file)))
    with open_journal(tmp_path) as journal:
        add(journal, *(page(number) for number in range(300)))
    assert sorted(urls_in(tmp_path)) == sorted(f"http://example.org/{n}" for n in range(300))
    assert len(flushes) < 10


def test_a_kill_at_any_byte_of_the_journal(tmp_path):
    with open_journal(tmp_path) as journal:
        for number in range(6):
            add(journal, page(number) if number % 3 else failure(number))
    lines = (tmp_path / "journal.tsv").read_bytes()
    records = (tmp_path / "pages-00000.warc.gz").read_bytes()
    for cut in range(len(lines) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal.tsv").write_bytes(lines[:cut])
        (folder / "pages-00000.warc.gz").write_bytes(records + b"torn" * (cut % 3))
        known: list = []
        with open_journal(folder, known=known) as journal:
            assert journal.tally.n_done == max(lines[:cut].count(b"\n") - 1, 0)
            add(journal, *(page(n) for n in range(6) if n not in [one[0] for one in known]))
        found = urls_in(folder)
        assert len(found) == len(set(found)) >= 4
        kept = (folder / "journal.tsv").read_text("utf-8").splitlines()[1:]
        assert sorted(int(line.split("\t")[0]) for line in kept) == list(range(6))


def test_what_the_journal_does_not_know_is_removed(tmp_path):
    with open_journal(tmp_path, 700) as journal:
        add(journal, page(1))
    (tmp_path / "pages-00001.warc.gz").write_bytes(b"a file that was begun, and is not known yet")
    with open_journal(tmp_path, 700) as journal:
        pass
    assert [path.name for path in tmp_path.glob("*.warc.gz")] == ["pages-00000.warc.gz"]


def test_no_page_no_archive(tmp_path):
    with open_journal(tmp_path) as journal:
        add(journal, failure(1))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.tsv"]


@pytest.mark.parametrize(
    "line",
    [
        b"x\tkept\t0\t1\t0\t9\turl",
        b"1\tkept\t0\t1\t0\turl",
        b"1000\tkept\t0\t1\t0\t9\turl",
        b"1\tkept\t0\t1\t0\t9\t\xff",
        bytes(20),
        b"",
    ],
)
def test_a_damaged_journal_is_refused(tmp_path, line):
    with open_journal(tmp_path) as journal:
        add(journal, failure(1))
    with open(tmp_path / "journal.tsv", "ab") as file:
        file.write(line + b"\n2\tempty\t0\t-\t-\t-\turl\n")
    with pytest.raises(DataError, match=r"journal\.tsv, line 3 cannot be read: the journal was"):
        open_journal(tmp_path)


@pytest.mark.parametrize("end", [0, -1])
def test_an_archive_that_was_cut_is_refused(tmp_path, end):
    with open_journal(tmp_path) as journal:
        add(journal, page(1))
    path = tmp_path / "pages-00000.warc.gz"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=r"pages-00000\.warc\.gz has .* was damaged or removed"):
        open_journal(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"pages-00000\.warc\.gz has 0 bytes"):
        open_journal(tmp_path)


def test_nothing_is_written_behind_a_failure(tmp_path, monkeypatch):
    flush = module._flush

    def fail_once(_file) -> None:
        monkeypatch.setattr(module, "_flush", flush)
        raise OSError(errno.ENOSPC, "full")

    with open_journal(tmp_path) as journal:
        add(journal, page(1))
        monkeypatch.setattr(module, "_flush", fail_once)
        for number in (2, 3):
            with pytest.raises(ExceptionGroup) as raised:
                add(journal, page(number))
            assert raised.value.exceptions[0].errno == errno.ENOSPC
    with open_journal(tmp_path) as journal:
        assert journal.tally.n_done == 1
        add(journal, page(2), page(3))
    assert sorted(urls_in(tmp_path)) == [f"http://example.org/{n}" for n in (1, 2, 3)]
