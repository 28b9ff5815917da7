"""Dumps of every compression give their records, cut ones up to the cut, damaged ones an error."""

import bz2
import gzip
import json
import logging
import lzma
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import DataError, MissingExtraError
from scratchlm.web import dumps
from scratchlm.web.dumps import Reading, Submission, parse_submission, read_records

RECORDS = [
    json.dumps(
        {"id": f"{i:x}", "url": f"http://site{i * 7919 % 101}.org/{i}", "text": "a" * (i % 50)}
    )
    for i in range(3000)
]
LINES = [line.encode() for line in RECORDS]
PLAIN = b"".join(line + b"\n" for line in LINES)


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".zst": zstd,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".gz": gzip.compress,
    "": bytes,
}
every_kind = pytest.mark.parametrize("kind", COMPRESS, ids=lambda kind: kind or "plain")
every_compressed = pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind])


def write(folder: Path, kind: str, data: bytes) -> Path:
    path = folder / f"RS_2011-01{kind}"
    path.write_bytes(data)
    return path


def read(path: Path) -> tuple[list[bytes], Reading]:
    reading = Reading()
    lines = list(read_records(path, reading))
    assert reading.n_records == len(lines)
    return lines, reading


@every_kind
def test_whole_files_give_every_record(tmp_path, kind, caplog):
    lines, reading = read(write(tmp_path, kind, COMPRESS[kind](PLAIN)))
    assert lines == LINES
    assert reading == Reading(n_records=len(LINES))
    assert not caplog.records


@every_kind
def test_streams_one_behind_the_other_are_read_through(tmp_path, kind):
    cuts = [0, 1, 999, 1000, 70_000, len(PLAIN)]
    parts = [PLAIN[a:b] for a, b in pairwise(cuts)]
    data = b"".join(COMPRESS[kind](part) for part in [*parts, b""])
    assert read(write(tmp_path, kind, data))[0] == LINES


@every_compressed
def test_zeros_between_and_behind_streams_are_padding(tmp_path, kind, caplog):
    half = len(PLAIN) // 2
    first, second = COMPRESS[kind](PLAIN[:half]), COMPRESS[kind](PLAIN[half:])
    lines, reading = read(write(tmp_path, kind, first + bytes(10_000) + second + bytes(8)))
    assert (lines, reading.cut_at) == (LINES, None)
    assert not caplog.records


@every_kind
def test_cut_files_give_the_beginning_and_a_warning(tmp_path, kind, caplog):
    data = COMPRESS[kind](PLAIN)
    for at in [
        *range(40),
        *range(40, len(data), len(data) // 60),
        *range(len(data) - 9, len(data)),
    ]:
        caplog.clear()
        path = write(tmp_path, kind, data[:at])
        lines, reading = read(path)
        assert lines == LINES[: len(lines)]
        at_a_line_end = not kind and data[:at].strip() == b"\n".join(lines)
        if not at_a_line_end:
            end = len(data[:at].rstrip(b"\0"))
            assert reading.cut_at == end
            assert f"{path} is cut at byte {end:,}: {len(lines):,} records" in caplog.text
    assert len(lines) > 0


@every_compressed
def test_unfinished_downloads_end_in_zeros(tmp_path, kind, caplog):
    data = COMPRESS[kind](PLAIN)
    for at in range(100, len(data) - 20, len(data) // 25):
        lines, reading = read(write(tmp_path, kind, data[:at] + bytes(len(data) - at + 9000)))
        assert reading.cut_at == len(data[:at].rstrip(b"\0"))
        assert lines == LINES[: len(lines)]
    assert "is cut at byte" in caplog.text


def test_an_unfinished_plain_download(tmp_path):
    lines, reading = read(write(tmp_path, "", PLAIN[:1000] + bytes(500)))
    assert lines == PLAIN[:1000].split(b"\n")[:-1]
    assert reading.cut_at == 1000
    whole = PLAIN[: PLAIN.index(b"\n")]
    assert read(write(tmp_path, "", whole + bytes(500))) == ([whole], Reading(1, cut_at=len(whole)))


@every_compressed
def test_damage_in_the_middle_is_an_error(tmp_path, kind):
    data = bytearray(COMPRESS[kind](PLAIN) + COMPRESS[kind](PLAIN))
    middle = len(data) // 3
    data[middle : middle + 64] = bytes(64)
    path = write(tmp_path, kind, bytes(data))
    with pytest.raises(DataError, match=r"RS_2011-01\.\w+ is damaged in or behind record \d"):
        list(read_records(path))


@every_compressed
def test_what_follows_a_stream_must_be_one(tmp_path, kind):
    path = write(tmp_path, kind, COMPRESS[kind](PLAIN) + b"<html>404</html>" * 9)
    with pytest.raises(DataError, match="is damaged in or behind record 3,00"):
        list(read_records(path))


@every_compressed
def test_another_kind_of_file_is_named(tmp_path, kind):
    with pytest.raises(DataError, match=rf"does not begin like a \{kind} file"):
        list(read_records(write(tmp_path, kind, b"<html>404</html>")))
    with pytest.raises(DataError, match=rf"is compressed: rename it to end in \{kind}"):
        list(read_records(write(tmp_path, "", COMPRESS[kind](PLAIN))))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="RS_2011-02 does not exist"):
        list(read_records(tmp_path / "RS_2011-02"))


def test_zstandard_may_be_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = write(tmp_path, ".zst", b"\x28\xb5\x2f\xfd")
    with pytest.raises(MissingExtraError, match=r"zstandard.*scratchlm\[web\]"):
        list(read_records(path))


def test_zstandard_may_look_back_as_far_as_pushshift_did(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    settings_31 = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=31, enable_ldm=True, source_size=0
    )
    compressor = zstandard.ZstdCompressor(compression_params=settings_31).compressobj()
    data = compressor.compress(PLAIN) + compressor.flush()
    assert zstandard.get_frame_parameters(data).window_size == 1 << 31
    assert read(write(tmp_path, ".zst", data))[0] == LINES


def test_frames_to_be_skipped_are(tmp_path):
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    assert read(write(tmp_path, ".zst", skipped + zstd(PLAIN)))[0] == LINES


@every_kind
def test_long_lines_are_counted_and_passed_over(tmp_path, kind, monkeypatch, caplog):
    monkeypatch.setattr(dumps, "MAX_LINE", 1 << 20)
    long = b'{"text": "' + b"x" * (3 << 20) + b'"}\n'
    within = b'{"text": "' + b"y" * ((1 << 20) - 12) + b'"}\n'
    data = LINES[0] + b"\n" + long + LINES[1] + b"\n" + long + within + LINES[2] + b"\n"
    lines, reading = read(write(tmp_path, kind, COMPRESS[kind](data)))
    assert lines == [LINES[0], LINES[1], within.strip(), LINES[2]]
    assert (reading.n_long, reading.cut_at) == (2, None)
    assert "2 lines of over 1 MB passed over" in caplog.text


def test_blank_lines_and_foreign_line_ends(tmp_path):
    path = write(tmp_path, "", b'\n{"a": 1}\r\n \n{"b": 2}\n\n{"c": 3}')
    lines, reading = read(path)
    assert lines == [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}']
    assert reading.cut_at is None


def test_a_last_line_without_an_end_counts_when_it_is_whole(tmp_path):
    assert read(write(tmp_path, "", b'{"a": {"b": 1}}'))[1].cut_at is None
    assert read(write(tmp_path, "", b'{"a": {"b": 1}'))[0] == []


@pytest.mark.parametrize("name", ["RS_v2_2005-06", "RS_v2_2005-07"])
def test_real_dumps(shared_data, name, caplog):
    caplog.set_level(logging.WARNING)
    folder = shared_data / "reddit" / "pushshift_dumps"
    expected = (folder / name).read_bytes().splitlines()
    assert list(read_records(folder / name)) == expected
    assert list(read_records(folder / f"{name}.xz")) == expected
    assert not caplog.records
    submissions = [parse_submission(line) for line in expected]
    for submission, line in zip(submissions, map(json.loads, expected), strict=True):
        assert submission == Submission(
            line["url"],
            line["score"],
            line["created_utc"],
            line["is_self"],
            line["over_18"],
            line["subreddit"],
            line["id"],
        )


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, Submission()),
        ({"url": None, "score": None, "created_utc": None, "id": 5}, Submission()),
        ({"score": "12", "created_utc": "1293840000"}, Submission(score=12, created=1293840000)),
        ({"score": 3.0, "created_utc": 1293840000.7}, Submission(score=3, created=1293840000)),
        ({"score": "many", "created_utc": "-"}, Submission()),
        ({"score": True, "created_utc": -1}, Submission()),
        ({"created_utc": 10**40, "score": float("nan")}, Submission()),
        ({"score": float("inf"), "url": ["http://a.org"]}, Submission()),
        ({"over_18": "True", "is_self": "false"}, Submission(over_18=True)),
        ({"over_18": 1, "is_self": 0}, Submission(over_18=True)),
        ({"url": "http://a.org/\ud800"}, Submission(url="http://a.org/\ufffd")),
        ({"url": "http://a.org/\ud83d\ude00"}, Submission(url="http://a.org/\U0001f600")),
    ],
)
def test_odd_fields(record, expected):
    assert parse_submission(json.dumps(record).encode()) == expected


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'"a"', b"\xff\xfe", b"[" * 100_000, b"9" * 5000]
)
def test_what_is_no_record(line):
    assert parse_submission(line) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
KEYS = ["url", "score", "created_utc", "is_self", "over_18", "subreddit", "id"]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_fields_make_a_submission(record):
    submission = parse_submission(json.dumps(record).encode())
    assert submission is not None
    submission.url.encode("utf-8")
