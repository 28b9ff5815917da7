"""What is on disk after a kill at any byte is true: no page lost, none twice; a power cut too."""

import errno
import gzip
import os
import random
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


def page(number: int, n_bytes: int = 100) -> tuple[Done, Answer]:
    url = f"http://example.org/{number}"
    headers = ((b"Content-Type", b"text/plain"),)
    body = random.Random(number).randbytes(n_bytes)
    answer = Answer(
        url, 200, "HTTP/1.1 200 OK", headers, "text/plain", "", "", "", body,
        is_whole=True, peer="8.8.8.8", date=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    return Done(number, KEPT, 0, url), answer


def failure(number: int, reason: str = "HTTP 404", n_hops: int = 1) -> tuple[Done]:
    return (Done(number, reason, n_hops, f"http://example.org/{number}?\u4f60"),)


def open_journal(folder: Path, chunk_bytes: int = 1 << 30, known: list | None = None) -> Journal:
    return Journal(folder, 1000, chunk_bytes, ABOUT, (known if known is not None else []).append)


def write(folder: Path, *pages: tuple, chunk_bytes: int = 1 << 30) -> None:
    with open_journal(folder, chunk_bytes) as journal:
        for one in pages:
            journal.add(*one)


def urls_in(folder: Path) -> list[str]:
    skipped: Counter[str] = Counter()
    found = [
        one.url
        for path in sorted(folder.glob("*.warc.gz"))
        for one in read_pages(path, 1 << 20, skipped)
    ]
    assert not skipped
    return found


def lines_in(folder: Path) -> list[list[str]]:
    lines = (folder / "journal.tsv").read_text("utf-8").split("\n")
    assert lines[-1] == ""
    return [line.split("\t") for line in lines[1:-1]]


def test_a_journal_goes_on(tmp_path):
    write(tmp_path, page(3), failure(5), failure(1, "robots.txt", 0), page(0, 50))
    known: list = []
    with open_journal(tmp_path, known=known) as journal:
        assert known == [page(3)[0], *failure(5), *failure(1, "robots.txt", 0), page(0)[0]]
        assert (journal.tally.n_kept, journal.tally.n_bytes) == (2, 150)
        assert journal.tally.dropped == {"HTTP 404": 1, "robots.txt": 1}
        assert journal.tally.n_done == 4
        journal.add(*page(7))
        assert (journal.tally.n_kept, journal.tally.n_bytes) == (3, 250)
    assert urls_in(tmp_path) == [f"http://example.org/{n}" for n in (3, 0, 7)]
    head = (tmp_path / "journal.tsv").read_text("utf-8").splitlines()[0]
    assert head == "number\toutcome\tredirects\tbytes\tfile\toffset\tlength\turl"
    assert lines_in(tmp_path)[1] == ["5", "HTTP 404", "1", *"----", "http://example.org/5?\u4f60"]


def test_a_line_says_where_its_record_is(tmp_path):
    write(tmp_path, *map(page, range(9)), chunk_bytes=900)
    for number, line in enumerate(lines_in(tmp_path)):
        assert line[:4] == [str(number), "kept", "0", "100"]
        chunk, offset, length = map(int, line[4:7])
        content = (tmp_path / f"pages-{chunk:05}.warc.gz").read_bytes()
        record = gzip.decompress(content[offset : offset + length])
        assert f"WARC-Target-URI: {line[7]}\r\n".encode() in record
    assert chunk > 1


def test_files_end_with_the_page_that_fills_them(tmp_path):
    for number in range(12):
        write(tmp_path, page(number), chunk_bytes=900)
    names = [path.name for path in sorted(tmp_path.glob("*.warc.gz"))]
    assert names == [f"pages-{n:05}.warc.gz" for n in range(len(names))]
    assert 3 < len(names) < 12
    assert urls_in(tmp_path) == [f"http://example.org/{n}" for n in range(12)]
    for path in tmp_path.glob("*.warc.gz"):
        assert f"WARC-Filename: {path.name}".encode() in gzip.decompress(path.read_bytes())


def finish(folder: Path, n: int) -> None:
    """Add what the journal does not know of pages 0 to n - 1, and check that all are there once."""
    known: list = []
    with open_journal(folder, known=known) as journal:
        for number in sorted(set(range(n)) - {done.number for done in known}):
            journal.add(*page(number))
    assert sorted(int(line[0]) for line in lines_in(folder)) == list(range(n))
    kept = [line[-1] for line in lines_in(folder) if line[1] == KEPT]
    assert urls_in(folder) == kept


def copy(folder: Path, lines: bytes, records: bytes) -> Path:
    folder.mkdir()
    (folder / "journal.tsv").write_bytes(lines)
    (folder / "pages-00000.warc.gz").write_bytes(records)
    return folder


@pytest.fixture
def written(tmp_path) -> tuple[bytes, bytes]:
    """The bytes of a journal and an archive of six pages."""
    write(tmp_path, *(page(n) if n % 3 else failure(n) for n in range(6)))
    names = ("journal.tsv", "pages-00000.warc.gz")
    return tuple((tmp_path / name).read_bytes() for name in names)


def test_a_kill_at_any_byte_of_the_journal(tmp_path, written, caplog):
    lines, records = written
    for cut in range(len(lines) + 1):
        folder = copy(tmp_path / str(cut), lines[:cut], records + b"torn" * (cut % 3))
        with open_journal(folder) as journal:
            assert journal.tally.n_done == max(lines[:cut].count(b"\n") - 1, 0)
        finish(folder, 6)
    assert not caplog.records


def test_a_power_cut_leaves_lines_without_records(tmp_path, written, caplog):
    lines, records = written
    told = ""
    for cut in range(0, len(records), 13):
        filler = bytes(len(records) - cut) if cut % 2 else b""  # some file systems fill with zeros
        folder = copy(tmp_path / str(cut), lines + bytes(cut % 5), records[:cut] + filler)
        caplog.clear()
        was_whole = (folder / "pages-00000.warc.gz").read_bytes() == records  # it ends in zeros
        finish(folder, 6)
        assert was_whole or "had not come to the disk, and will be again." in caplog.text
        told += caplog.text
    assert "journal.tsv: 1 page had not come" in told


def test_files_come_to_the_disk_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SYNC_SECONDS", 0.0)
    synced = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(sync(handle)))
    write(tmp_path, *map(page, range(50)), chunk_bytes=900)
    assert len(synced) > 20
    assert len(urls_in(tmp_path)) == 50


def test_what_the_journal_does_not_know_is_removed(tmp_path):
    write(tmp_path, page(1))
    (tmp_path / "pages-00001.warc.gz").write_bytes(b"a file that was begun, and is not known yet")
    write(tmp_path)
    assert [path.name for path in tmp_path.glob("*.warc.gz")] == ["pages-00000.warc.gz"]


def test_no_page_no_archive(tmp_path):
    write(tmp_path, failure(1))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.tsv"]


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        b"x\tkept\t0\t1\t0\t9\t9\turl",
        b"1\tkept\t0\t1\t0\t9\turl",
        b"1000\tkept\t0\t1\t0\t9\t9\turl",
        b"1\tempty\t0\t-\t-\t-\t0\turl",
        b"1\tempty\t0\t-\t-\t-\t-\t\xff",
        b"",
    ],
)
def test_a_damaged_journal_is_refused(tmp_path, monkeypatch, line, at_end):
    write(tmp_path, failure(1))
    with open(tmp_path / "journal.tsv", "ab") as file:
        file.write(line + b"\n" + b"2\tempty\t0\t-\t-\t-\t-\turl\n" * 9)
    if not at_end:
        monkeypatch.setattr(module, "_TAIL", 60)
    where = "the end of .*" if at_end else ""
    message = rf"{where}journal\.tsv(, line 3)? cannot be read: the journal was damaged"
    with pytest.raises(DataError, match=message):
        open_journal(tmp_path)


def test_a_journal_of_another_version_is_refused(tmp_path):
    (tmp_path / "journal.tsv").write_bytes(b"number\turl\n")
    with pytest.raises(DataError, match=r"journal\.tsv is no journal of this version\. Begin anew"):
        open_journal(tmp_path)
    assert (tmp_path / "journal.tsv").read_bytes() == b"number\turl\n"


def test_an_archive_that_was_cut_long_ago_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TAIL", 100)
    write(tmp_path, page(1), *(failure(n) for n in range(2, 9)))
    path = tmp_path / "pages-00000.warc.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"pages-00000\.warc\.gz has .* was damaged or removed"):
        open_journal(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"pages-00000\.warc\.gz has 0 bytes"):
        open_journal(tmp_path)


def test_nothing_is_written_behind_a_failure(tmp_path, monkeypatch):
    write_record = module.response_record

    def fail(*_, **__) -> bytes:
        raise OSError(errno.ENOSPC, "full")

    with open_journal(tmp_path) as journal:
        journal.add(*page(1))
        monkeypatch.setattr(module, "response_record", fail)
        for number in (2, 3):
            with pytest.raises(OSError) as raised:
                journal.add(*page(number))
            assert raised.value.errno == errno.ENOSPC
            monkeypatch.setattr(module, "response_record", write_record)
    finish(tmp_path, 4)
