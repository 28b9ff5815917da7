"""WARC, the archives that web pages are kept in (ISO 28500, version 1.1): records, one by one.

A record of ours is a gzip stream of its own, so that a file can be cut behind any of them, and read
from any of them on. A page is stored as it came, which is what the standard asks for and takes the
least time: with its content encoding, which warcio, fastwarc and `read_pages` undo. Only the chunks
of its transfer are gone; headers that told of them get "X-Crawler-" in front, as in Common Crawl.
"""

import base64
import hashlib
import re
import struct
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from scratchlm.base.errors import MissingExtraError
from scratchlm.base.log import warn
from scratchlm.base.progress import counted
from scratchlm.web.encodings import PACKED, unpacked

_LEVEL = 1  # of gzip: 6 makes text a fifth smaller, and takes 6 times as long
_GZIP_HEAD = b"\x1f\x8b\b\0\0\0\0\0\0\xff"  # RFC 1952, 2.3: no time, no name, unknown system
_MOST_STORED = 0xFFFF  # bytes in one block
_MOST_ENCODINGS = 3  # of one answer that are undone
_UNDONE = (b"content-length", b"transfer-encoding")  # headers that no longer hold of a body

_HTTP = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})\b[^\n]*\n((?:[^\r\n][^\n]*\n)*)\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE | re.ASCII)

Header = tuple[bytes, bytes]


def info_record(name: str, fields: Mapping[str, str], date: datetime) -> bytes:
    """The record that begins a file and says who made it, and how.

    name     of the file
    fields   such as software, robots, http-header-user-agent
    """
    block = "".join(f"{key}: {value}\r\n" for key, value in fields.items()).encode()
    about = {"WARC-Filename": name, "Content-Type": "application/warc-fields"}
    return _record("warcinfo", about, block, date)


def response_record(
    url: str,
    status_line: str,
    headers: Sequence[Header],
    body: bytes,
    date: datetime,
    peer: str,
    *,
    is_packed: bool = False,
) -> bytes:
    """The record of a page, compressed.

    url           in ASCII
    status_line   such as "HTTP/1.1 200 OK"
    headers       as they came; those that no longer hold of the body are renamed
    body          with its content encoding
    peer          the address of the server; "" where it is not known
    is_packed     the body cannot be made smaller
    """
    head = bytearray(f"{status_line}\r\n".encode("utf-8", "surrogateescape"))
    for key, value in headers:
        head += b"X-Crawler-" * (key.lower() in _UNDONE) + key + b": " + value + b"\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    about = {
        "WARC-Target-URI": url,
        **({"WARC-IP-Address": peer} if peer else {}),
        "WARC-Payload-Digest": _digest(body),
        "Content-Type": "application/http; msgtype=response",
    }
    return _record("response", about, bytes(head) + body, date, is_packed=is_packed)


def _record(
    kind: str, about: Mapping[str, str], block: bytes, date: datetime, *, is_packed: bool = False
) -> bytes:
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid4()}>",
        "WARC-Date": f"{date:%Y-%m-%dT%H:%M:%SZ}",
        **about,
        "WARC-Block-Digest": _digest(block),
        "Content-Length": str(len(block)),
    }
    head = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
    record = b"".join((f"WARC/1.1\r\n{head}\r\n".encode(), block, b"\r\n\r\n"))
    if is_packed:
        return _stored(record)
    return zlib.compress(record, _LEVEL, 31)  # 31: with gzip's head and sums


def _stored(data: bytes) -> bytes:
    """A gzip stream that holds data as they are (RFC 1951, 3.2.4): a third of zlib's time."""
    pieces = [_GZIP_HEAD]
    for start in range(0, len(data), _MOST_STORED):
        piece = data[start : start + _MOST_STORED]
        is_last = start + _MOST_STORED >= len(data)
        pieces += (struct.pack("<BHH", is_last, len(piece), len(piece) ^ _MOST_STORED), piece)
    pieces.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(pieces)


def _digest(data: bytes) -> str:
    sha1 = hashlib.sha1(data, usedforsecurity=False).digest()
    return f"sha1:{base64.b32encode(sha1).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Page:
    """What was fetched from one address.

    url            of the page itself, behind all redirects
    date           of its fetching, as the archive has it: 2024-05-18T01:58:10Z
    status         of HTTP; 200 where an archive holds a file, or a text, without any HTTP
    content_type   in lower case, without parameters; "" where none was told
    charset        in lower case; None where none was told
    body           decoded
    offset         byte of the file at which the record begins
    """

    url: str
    date: str
    status: int
    content_type: str
    charset: str | None
    body: bytes
    offset: int


def read_pages(path: Path, max_bytes: int, skipped: Counter[str]) -> Iterator[Page]:
    """The pages of an archive, in its order, whatever their status; memory holds one.

    path        .warc, .warc.gz, .warc.lz4 or .warc.zst, of any program
    max_bytes   of a record, and of a page decoded: larger ones are passed over
    skipped     filled: records that hold no page, by reason
    raises      MissingExtraError without the library; an archive that is damaged or cut is read up
                to there, and a warning says so
    """
    fastwarc = _fastwarc(f"Reading {path.name}")
    n_pages = 0
    with open(path, "rb") as file:
        try:
            for record in fastwarc.warc.ArchiveIterator(file, parse_http=False):
                found = _page_of(record, max_bytes, fastwarc.stream_io)
                if isinstance(found, Page):
                    n_pages += 1
                    yield found
                elif found:
                    skipped[found] += 1
        except OSError as damage:
            pages = counted(n_pages, "page")
            warn(f"{path} is damaged behind {pages}: what follows is not read ({damage}).")


def _page_of(record: Any, max_bytes: int, readers: Any) -> Page | str:
    """A record's page, or the reason why it has none; "" where nobody would expect one.

    raises   OSError for a record that is cut
    """
    kind, n_bytes = str(record.record_type), record.content_length
    has_page = kind in ("response", "resource", "conversion")
    block = record.reader.read(n_bytes) if has_page and n_bytes <= max_bytes else None
    n_read = record.consume() if block is None else len(block)
    if n_read < n_bytes or not record.headers.get("Content-Length"):
        raise OSError("a record is cut")
    if block is None:
        return "too large" if has_page else kind * (kind == "revisit")
    if kind != "response":
        return _page(record, 200, record.headers.get("Content-Type") or "", block)
    answer = _HTTP.match(block)
    if answer is None:
        return "not HTTP"
    fields = _fields(answer[2])
    body = _decoded(block[answer.end() :], fields, max_bytes, readers)
    if len(body) > max_bytes:
        return "too large"
    return _page(record, int(answer[1]), fields.get("content-type", ""), body)


def _page(record: Any, status: int, told_type: str, body: bytes) -> Page:
    content_type, _, parameters = told_type.partition(";")
    charset = _CHARSET.search(parameters)
    return Page(
        url=(record.headers.get("WARC-Target-URI") or "").strip("<>"),  # as wget writes it
        date=record.headers.get("WARC-Date") or "",
        status=status,
        content_type=content_type.strip().lower(),
        charset=charset[1].lower() if charset else None,
        body=body,
        offset=record.stream_pos,
    )


def _fields(head: bytes) -> dict[str, str]:
    """The header lines of an answer, by their names in lower case; of equal ones the last."""
    pairs = (line.decode("latin-1").partition(":") for line in head.split(b"\n"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _decoded(body: bytes, fields: dict[str, str], max_bytes: int, readers: Any) -> bytes:
    """A body without its encodings; of a larger one `max_bytes` and one more.

    Many programs store what is decoded already below headers that still say otherwise: what cannot
    be decoded is taken as it is.
    """
    others = {
        "chunked": readers.ChunkedReader,
        "br": readers.BrotliReader,
        "zstd": readers.ZstdReader,
    }
    told = f"{fields.get('content-encoding', '')},{fields.get('transfer-encoding', '')}"
    names = [name.strip() for name in told.lower().split(",")][::-1]  # the last was put on last
    for name in [name for name in names if name in others or name in PACKED][:_MOST_ENCODINGS]:
        with suppress(OSError, ValueError):
            if name in PACKED:
                body = unpacked(body, name, max_bytes)
            else:
                body = others[name](BytesIO(body)).read(max_bytes + 1)
    return body


def _fastwarc(purpose: str) -> Any:
    try:
        import fastwarc
    except ModuleNotFoundError:
        raise MissingExtraError("fastwarc", "web", purpose) from None
    return fastwarc
