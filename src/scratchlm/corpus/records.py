"""Streams of text, JSON lines and tables to documents; what cannot be read is a `Failure`.

Here nothing ends a run: `read.py`, which prepares text for training, stops at the first bad line.
"""

import codecs
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from scratchlm.base.errors import DataError
from scratchlm.corpus.encodings import decode, detect
from scratchlm.corpus.pieces import cut_pieces, split_documents
from scratchlm.corpus.read import Document, SourceFile, parquet_rows
from scratchlm.extraction.archives import Stream
from scratchlm.extraction.charset import guessed
from scratchlm.extraction.result import Unreadable
from scratchlm.extraction.tables import open_table

_SAMPLE = 1 << 20  # bytes of a text that tell its encoding
_READ = 1 << 16
_MOST_BROKEN = 0.01  # of the characters: a text with more U+FFFD is in no encoding that we know
_DETAIL = 200  # characters
_TEXT_KEY = "text"
_MOST_DEEP = 100  # levels of a JSON object: Python writes about 1,000


@dataclass(frozen=True)
class Reading:
    """How files are read.

    most                 bytes of a document, or characters: a longer text is cut into several,
                         everything else is left out
    text_key             key of a JSON line, column of a table: what holds the text
    document_separator   what stands between the documents of a text file; None: it is one
    """

    most: int
    text_key: str = _TEXT_KEY
    document_separator: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that gives no text.

    reason   in few words, to be counted
    detail   to be read
    digest   of its bytes, where the machine had a part in it
    """

    id: str
    source: str
    reason: str
    detail: str = ""
    n_bytes: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where documents come from: the beginning of their ids, and the path that the user knows."""

    name: str
    source: str

    def failure(self, reason: str, detail: str = "", n_bytes: int = 0) -> Failure:
        """A failure there."""
        return Failure(self.name, self.source, reason, detail[:_DETAIL], n_bytes)

    def numbered(self, number: int) -> "Origin":
        """A line, row or piece of it."""
        return Origin(f"{self.name}:{number}", self.source)

    def document(self, text: object, meta: dict[str, Any], n_bytes: int = 0) -> Document | Failure:
        """A document of that text, unless it is none, is empty, or could not be decoded.

        Characters that are broken, in few places, are counted in its meta, as n_broken.
        """
        if text is not None and not isinstance(text, str):
            return self.failure("no text", f"but {type(text).__name__}", n_bytes)
        if not text or not text.strip():
            return self.failure("empty", n_bytes=n_bytes)
        n_broken = text.count("\ufffd")
        if n_broken > _MOST_BROKEN * len(text):
            return self.failure("unknown encoding", f"{n_broken} broken characters", len(text))
        told = {"n_broken": n_broken} if n_broken else {}
        return Document(self.name, text, self.source, {**meta, **told})


class Peeked:
    """A stream whose first bytes were looked at, in `head`; unread yet, it can seek to 0."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self.head = self._held = exactly(stream, size)

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""
        if not self._held:
            return self._stream.read(size)
        given, self._held = self._held[:size], self._held[size:]
        return given

    def seek(self, _at: int) -> int:
        """Be at the beginning, where `decode` wants to be."""
        assert len(self._held) == len(self.head)
        return 0


def exactly(stream: Stream, size: int) -> bytes:
    """So many bytes of a stream, or all there are."""
    parts = []
    while size > 0 and (part := stream.read(min(size, _READ))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def text_documents(
    stream: Stream, origin: Origin, reading: Reading, meta: dict[str, Any]
) -> Iterator[Document | Failure]:
    """A text as it is; several, where they are separated or it is very long.

    raises   Unreadable "binary" or "unknown encoding"
    """
    parts = split_documents(_decoded(stream, origin.source), reading.document_separator)
    yield from _cut(parts, origin, reading, meta)


def _cut(
    parts: Iterable[tuple[str, bool]], origin: Origin, reading: Reading, meta: dict[str, Any]
) -> Iterator[Document | Failure]:
    is_one = reading.document_separator is None
    for number, (text, ends) in enumerate(cut_pieces(parts, reading.most), 1):
        is_one = is_one and ends
        yield (origin if is_one else origin.numbered(number)).document(text, meta)


def _decoded(stream: Stream, source: str) -> Iterator[str]:
    peeked, path = Peeked(stream, _SAMPLE), Path(source)
    try:
        codec = _codec(peeked.head, path)
        yield from decode(cast(BinaryIO, peeked), path, codec, "replace")
    except DataError as binary:
        raise Unreadable("binary", str(binary)) from None


def _codec(head: bytes, path: Path) -> str:
    """The encoding of a text; raises DataError for a binary file."""
    codec = detect(io.BytesIO(head), path)
    text = codecs.getincrementaldecoder(codec)("replace").decode(head)
    n_beyond = len(text) - len(text.encode("ascii", "ignore"))
    if codec != "utf-8" or text.count("\ufffd") * 2 <= n_beyond:
        return codec
    likely = guessed(head)
    if likely is None:
        raise Unreadable("unknown encoding")
    return likely


def json_documents(
    stream: Stream, origin: Origin, reading: Reading
) -> Iterator[Document | Failure]:
    """The objects of JSON lines; the keys beside the text's are their meta."""
    for number, line in enumerate(_byte_lines(_as_utf8(stream), reading.most), 1):
        here = origin.numbered(number)
        if line is None:
            yield here.failure("too large", f"over {reading.most >> 20} MB")
        elif line.strip():
            yield _record(line, here, reading.text_key)


def _as_utf8(stream: Stream) -> Stream:
    """JSON lines without a byte order mark; those in UTF-16 as UTF-8."""
    peeked = Peeked(stream, len(codecs.BOM_UTF8))
    if peeked.head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.EncodedFile(cast(Any, peeked), "utf-8", "utf-16", "replace")
    if peeked.head == codecs.BOM_UTF8:
        peeked.read(len(codecs.BOM_UTF8))
    return peeked


def _byte_lines(stream: Stream, most: int) -> Iterator[bytes | None]:
    """The lines of a stream, without their ends; None for one that is too long."""
    held, passing = bytearray(), False
    while block := stream.read(_READ):
        *ended, rest = block.split(b"\n")
        for part in ended:
            yield None if passing or len(held) + len(part) > most else bytes(held + part)
            held.clear()
            passing = False
        if not passing:
            held += rest
        if len(held) > most:
            passing = True
            held.clear()
    if held or passing:
        yield None if passing else bytes(held)


def _record(line: bytes, origin: Origin, text_key: str) -> Document | Failure:
    try:
        try:
            record = json.loads(line, parse_constant=lambda _: None)
        except UnicodeDecodeError:  # what Windows in China writes
            record = json.loads(line.decode("gb18030"), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as bad:
        return origin.failure("broken json", str(bad), len(line))
    if not isinstance(record, dict):
        return origin.failure("broken json", f"a {type(record).__name__}", len(line))
    if _is_deep(line, record):
        return origin.failure("broken json", f"nested over {_MOST_DEEP} deep", len(line))
    if text_key not in record:
        return origin.failure(f"no key {text_key}", f"but {', '.join(record)}", len(line))
    return origin.document(record.pop(text_key), record, len(line))


def _is_deep(line: bytes, record: dict[str, Any]) -> bool:
    """Whether a record is nested deeper than it can be written again for certain."""
    if line.count(b"[") + line.count(b"{") <= _MOST_DEEP:
        return False
    level: list[Any] = [record]
    for _ in range(_MOST_DEEP):
        lists = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for inner in lists for one in inner if isinstance(one, (dict, list))]
    return bool(level)


def table_documents(
    stream: Stream, origin: Origin, reading: Reading
) -> Iterator[Document | Failure]:
    """The rows of a table that has a column of text; any other table as one text.

    raises   Unreadable "binary", "unknown encoding" or "broken table"; "no column NAME" where the
             user has named one
    """
    lines = _text_lines(_decoded(stream, origin.source), reading.most)
    ending = ".tsv" if ".tsv" in Path(origin.name.lower()).suffixes else ".csv"
    table = open_table(lines, ending, reading.text_key, reading.most)
    if table.at is None and reading.text_key != _TEXT_KEY:
        raise Unreadable(f"no column {reading.text_key}", f"but {', '.join(table.columns)}")
    if table.at is None:
        rows = ((f"{table.document(row)[0]}\n", False) for row in table.rows)
        one = Reading(reading.most)  # no separators in here
        yield from _cut(chain(rows, [("", True)]), origin, one, {"kind": "table"})
        return
    for number, row in enumerate(table.rows, 1):
        text, meta = table.document(row)
        yield origin.numbered(number).document(text, meta)


def _text_lines(texts: Iterator[str], most: int) -> Iterator[str]:
    held = ""
    for text in texts:
        *lines, held = (held + text).split("\n")
        yield from (f"{line}\n" for line in lines)
        if len(held) > most:
            raise Unreadable("broken table", f"a line of over {most >> 20} MB")
    if held:
        yield held


def parquet_documents(
    file: SourceFile, origin: Origin, text_key: str
) -> Iterator[Document | Failure]:
    """The rows of a Parquet file; columns of numbers, texts and times are their meta."""
    try:
        for number, text, row in parquet_rows(file, text_key, with_meta=True):
            meta = {name: _plain(value) for name, value in row.items() if value is not None}
            yield origin.numbered(number).document(text, meta)
    except DataError as bad:
        yield origin.failure("parquet not read", str(bad))


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else value  # a datetime is a date
