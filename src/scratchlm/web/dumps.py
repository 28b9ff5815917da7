"""Dumps of Reddit submissions, one JSON object a line, to records: the beginning of web text.

Pushshift's monthly files (RS_2011-01.zst, .xz, .bz2; arXiv:2001.08435) are read as a stream: memory
holds one record and, for zstandard, the window that the file asks for (up to 2 GB).
"""

import bz2
import json
import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from scratchlm.base.errors import DataError
from scratchlm.base.log import warn
from scratchlm.base.progress import counted
from scratchlm.base.zstd import zstandard

MAX_LINE = 1 << 24  # bytes of one record; real ones stay below 1 MB
_WINDOW = 1 << 31  # bytes that a decompressor may look back: Pushshift's .zst files need them all
_READ = 1 << 12  # compressed bytes at a time: at zstandard's best, 32,000 : 1, they become 128 MB
_PIECE = 1 << 20  # decompressed bytes at a time, where the library lets itself be bounded
_OWN_ZEROS = 9  # bytes, at most, at the end of a stream: an empty gzip stream has so many
_LAST_SECOND = 253_402_300_799  # 9999-12-31 23:59:59 UTC, the last that the calendar knows

_MAGIC = {  # how a file of each ending begins
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i, 0x2A, 0x4D, 0x18]) for i in range(16))),
    ".xz": (b"\xfd7zXZ\x00",),
    ".bz2": (b"BZh",),
    ".gz": (b"\x1f\x8b",),
}  # the sixteen after zstandard's own open a frame to be skipped, which pzstd writes first


ENDINGS = (*_MAGIC, ".jsonl", ".ndjson")  # of the files that a folder is searched for


@dataclass
class Reading:
    """What was met in one file; filled by `read_records`."""

    n_records: int = 0  # given so far
    n_long: int = 0  # lines of more than MAX_LINE bytes, passed over
    ends_within_record: bool = False  # the last line is the beginning of a record
    cut_at: int | None = None  # byte of the file at which it breaks off; None: it is whole


def read_records(path: Path, reading: Reading | None = None) -> Iterator[bytes]:
    """The lines of a dump that are not blank, without their ends, in the file's order.

    path     .zst, .xz, .bz2, .gz, or JSON lines under any other name; streams and frames that
             stand one behind the other are read through
    raises   DataError for a file that is damaged in the middle; one that is cut, or that an
             unfinished download left full of zeros from some byte on, is read up to there, and a
             warning says so; MissingExtraError for .zst without the library
    """
    reading = reading if reading is not None else Reading()
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is not a file.")
    with open(path, "rb") as file:
        kind = _kind_of(path, file)
        size, end = path.stat().st_size, _end_of_data(file)
        plain = _parts(file, end, _PIECE)
        pieces = _expanded(file, end, path, kind, reading) if kind else plain
        for line in _lines(pieces, reading):
            reading.n_records += 1
            yield line
        unfinished = reading.ends_within_record or (end < size and not kind)
        if unfinished and reading.cut_at is None:
            reading.cut_at = end
    if reading.cut_at is not None:
        warn(
            f"{path} is cut at byte {reading.cut_at:,}: {reading.n_records:,} records in front of "
            "it were read, and what follows is missing. Fetch it again if you need all of it."
        )
    if reading.n_long:
        lines = counted(reading.n_long, "line")
        warn(f"{path}: {lines} of over {MAX_LINE >> 20} MB passed over.")


def _kind_of(path: Path, file: BinaryIO) -> str:
    """The ending that tells how the file is compressed; "" for plain text."""
    ending = path.suffix.lower()
    head = file.read(6)
    file.seek(0)
    for kind, magics in _MAGIC.items():
        begins = head.startswith(magics)
        cut = any(magic.startswith(head) for magic in magics)  # within its first bytes
        if ending == kind and not begins and not cut:
            raise DataError(f"{path} does not begin like a {kind} file. Fetch it again.")
        if ending not in _MAGIC and begins:
            raise DataError(f"{path} is compressed: rename it to end in {kind}.")
    return ending if ending in _MAGIC else ""


def _lines(pieces: Iterator[bytes], reading: Reading) -> Iterator[bytes]:
    """Divide at line ends; memory holds one line and one piece."""
    held, passing = bytearray(), False  # passing: within a line that is too long
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            line = bytes(held + part) if held else part
            held.clear()
            if passing:
                passing = False
            elif len(line) > MAX_LINE:
                reading.n_long += 1
            elif line := line.strip():
                yield line
        if not passing:
            held += rest
        if len(held) > MAX_LINE:
            reading.n_long, passing = reading.n_long + 1, True
            held.clear()
    last = bytes(held).strip()
    whole = not last or _is_whole(last)
    if last and whole:
        yield last
    reading.ends_within_record = passing or not whole


def _is_whole(line: bytes) -> bool:
    """Whether a line without an end is a whole record: the beginning of an object never is one."""
    return line.endswith(b"}") and load_object(line) is not None


def _end_of_data(file: BinaryIO) -> int:
    """Where the zeros begin that the file ends with; its size where there are none.

    Programs that download in parts make the whole file first, full of zeros. To a decompressor
    they can look like more text, so that they must not reach it.
    """
    end = file.seek(0, 2)
    while end:
        start = max(0, end - _PIECE)
        file.seek(start)
        known = file.read(end - start).rstrip(b"\0")
        end = start + len(known)
        if known:
            break
    file.seek(0)
    return end


def _parts(file: BinaryIO, end: int, size: int) -> Iterator[bytes]:
    while data := file.read(min(size, end - file.tell())):
        yield data


def _expanded(file: BinaryIO, end: int, path: Path, kind: str, reading: Reading) -> Iterator[bytes]:
    """Decompress all streams of a file; sets `reading.cut_at` where the last one does not end."""
    make, error = _decompressor(path, kind)
    stream = make()
    for part in _parts(file, end, _READ):
        data = part.lstrip(b"\0") if stream.eof else part  # padding between streams
        while data:
            stream = make() if stream.eof else stream
            try:
                yield from _pieces(stream, data)
            except error as bad:
                raise DataError(
                    f"{path} is damaged in or behind record {reading.n_records + 1:,}, in front "
                    f"of byte {file.tell():,} ({bad}). Fetch it again."
                ) from None
            data = stream.unused_data.lstrip(b"\0") if stream.eof else b""
    if not stream.eof and not _ends_in_zeros(stream, file.read(_OWN_ZEROS), error):
        reading.cut_at = end


def _ends_in_zeros(stream: Any, zeros: bytes, error: type[Exception]) -> bool:
    """Whether a stream ends in zeros of its own, such as a checksum; they give no more text."""
    try:
        return bool(zeros) and not any(list(_pieces(stream, zeros))) and stream.eof
    except error:
        return False


def _pieces(stream: Any, data: bytes) -> Iterator[bytes]:
    """What a decompressor makes of `data`, in pieces where it knows how to stop."""
    if not hasattr(stream, "needs_input"):
        yield stream.decompress(data)
        return
    yield stream.decompress(data, _PIECE)
    while not stream.eof and not stream.needs_input:
        yield stream.decompress(b"", _PIECE)


def _decompressor(path: Path, kind: str) -> tuple[Callable[[], Any], type[Exception]]:
    """What makes a decompressor for one stream, and what it raises on damage."""
    if kind == ".gz":
        return partial(zlib.decompressobj, wbits=31), zlib.error  # 31: with gzip's head and sums
    if kind == ".bz2":
        return bz2.BZ2Decompressor, OSError
    if kind == ".xz":
        return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _WINDOW), lzma.LZMAError
    zstd = zstandard(f"Reading {path.name}")
    return zstd.ZstdDecompressor(max_window_size=_WINDOW).decompressobj, zstd.ZstdError


def load_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line holds; None where it holds none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # not JSON or not UTF-8; lists thousands deep
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class Submission:
    """What a record says of a link; fields that are missing or make no sense have their default.

    url        as it stands there, "" for none; halves of surrogate pairs are U+FFFD
    score      votes for less votes against; None: not known
    created    seconds since 1970, UTC; None: not known
    is_self    a text on Reddit itself, not a link
    over_18    marked as not safe for work
    """

    url: str = ""
    score: int | None = None
    created: int | None = None
    is_self: bool = False
    over_18: bool = False
    subreddit: str = ""
    id: str = ""


def parse_submission(line: bytes) -> Submission | None:
    """Take a record apart; None where it is not a JSON object.

    Over the years Pushshift wrote numbers as text, times with a fraction and null for what it did
    not know.
    """
    record = load_object(line)
    if record is None:
        return None
    created = _number(record.get("created_utc"))
    if created is not None and not 0 <= created <= _LAST_SECOND:
        created = None
    return Submission(
        url=_text(record.get("url")),
        score=_number(record.get("score")),
        created=created,
        is_self=_flag(record.get("is_self")),
        over_18=_flag(record.get("over_18")),
        subreddit=_text(record.get("subreddit")),
        id=_text(record.get("id")),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    return value


def _flag(value: object) -> bool:
    return value is True or value == 1 or (isinstance(value, str) and value.lower() == "true")
